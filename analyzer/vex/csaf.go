package vex

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/analyzer"
)

// What is read of CSAF 2.0 (docs.oasis-open.org/csaf/csaf/v2.0): the rest of a
// document is for readers.
type csafDocument struct {
	Document struct {
		Category  string `json:"category"`
		Version   string `json:"csaf_version"`
		Publisher struct {
			Name string `json:"name"`
		} `json:"publisher"`
		Tracking struct {
			ID      string    `json:"id"`
			Status  string    `json:"status"`
			Current time.Time `json:"current_release_date"`
		} `json:"tracking"`
	} `json:"document"`
	ProductTree struct {
		Branches      []csafBranch       `json:"branches"`
		Names         []csafName         `json:"full_product_names"`
		Relationships []csafRelationship `json:"relationships"`
		Groups        []struct {
			ID       string   `json:"group_id"`
			Products []string `json:"product_ids"`
		} `json:"product_groups"`
	} `json:"product_tree"`
	Vulnerabilities []csafVulnerability `json:"vulnerabilities"`
}

type csafBranch struct {
	Branches []csafBranch `json:"branches"`
	Product  *csafName    `json:"product"`
}

type csafName struct {
	ID     string `json:"product_id"`
	Name   string `json:"name"`
	Helper struct {
		PURL string `json:"purl"`
		CPE  string `json:"cpe"`
	} `json:"product_identification_helper"`
}

type csafRelationship struct {
	Name      csafName `json:"full_product_name"`
	Reference string   `json:"product_reference"`
	RelatesTo string   `json:"relates_to_product_reference"`
}

type csafVulnerability struct {
	CVE string `json:"cve"`
	IDs []struct {
		Text string `json:"text"`
	} `json:"ids"`
	Status       map[string][]string `json:"product_status"`
	Flags        []csafRemark        `json:"flags"`
	Threats      []csafRemark        `json:"threats"`
	Remediations []csafRemark        `json:"remediations"`
}

// csafRemark is a flag, a threat or a remediation: something said of products.
type csafRemark struct {
	Label    string   `json:"label"`    // of a flag: a justification
	Category string   `json:"category"` // of a threat or remediation
	Details  string   `json:"details"`
	Products []string `json:"product_ids"`
	Groups   []string `json:"group_ids"`
}

// csafStatus is what a key of product_status means.
type csafStatus struct {
	key    string
	status analyzer.VEXStatus
}

// csafStatuses are the keys of product_status that say something of a version
// in use (CSAF 2.0, section 3.2.3.9), in a fixed order.
var csafStatuses = []csafStatus{
	{"known_not_affected", analyzer.VEXNotAffected},
	{"first_fixed", analyzer.VEXFixed},
	{"fixed", analyzer.VEXFixed},
	{"under_investigation", analyzer.VEXUnderInvestigation},
	{"first_affected", analyzer.VEXAffected},
	{"last_affected", analyzer.VEXAffected},
	{"known_affected", analyzer.VEXAffected},
}

// maxNesting bounds the depth of branches and of relationships.
const maxNesting = 64

// catalogue is a product tree by product id.
type catalogue struct {
	names         map[string]csafName
	relationships map[string]csafRelationship
	groups        map[string][]string
}

func (d *Document) csaf(data []byte) error {
	var doc csafDocument
	if err := decode(data, &doc); err != nil {
		return err
	}
	head := &doc.Document
	switch {
	case head.Version != "2.0":
		return fmt.Errorf("document.csaf_version: %q is not 2.0", clip(head.Version))
	case head.Category != "csaf_vex":
		return fmt.Errorf("document.category: %q is not csaf_vex", clip(head.Category))
	case head.Tracking.ID == "":
		return errors.New("document.tracking.id: missing")
	case head.Tracking.Status != "final" && head.Tracking.Status != "interim":
		return fmt.Errorf("document.tracking.status: %q is neither final nor interim", clip(head.Tracking.Status))
	case head.Tracking.Current.IsZero():
		return errors.New("document.tracking.current_release_date: missing")
	case strings.TrimSpace(head.Publisher.Name) == "":
		return errors.New("document.publisher.name: missing")
	case len(doc.Vulnerabilities) == 0:
		return errors.New("vulnerabilities: there are none")
	}
	d.ID, d.Author = head.Tracking.ID, head.Publisher.Name
	c, err := newCatalogue(&doc)
	if err != nil {
		return fmt.Errorf("product_tree%w", err)
	}
	products := 0
	for i := range doc.Vulnerabilities {
		place := fmt.Sprintf("vulnerabilities[%d]", i)
		statements, n, err := d.csafStatements(place, &doc.Vulnerabilities[i], c)
		if err != nil {
			return fmt.Errorf("%s%w", place, err)
		}
		if products += n; products > maxProducts {
			return fmt.Errorf("%s: more than %d products in all", place, maxProducts)
		}
		for _, s := range statements {
			s.Author, s.Document, s.Time = d.Author, d.ID, head.Tracking.Current
			d.Statements = append(d.Statements, s)
		}
	}
	return nil
}

func newCatalogue(doc *csafDocument) (*catalogue, error) {
	c := &catalogue{names: map[string]csafName{}, relationships: map[string]csafRelationship{}, groups: map[string][]string{}}
	add := func(n csafName) error {
		if _, twice := c.names[n.ID]; n.ID == "" || twice {
			return fmt.Errorf(": product_id %q is empty or there twice", clip(n.ID))
		}
		c.names[n.ID] = n
		return nil
	}
	var walk func(branches []csafBranch, depth int) error
	walk = func(branches []csafBranch, depth int) error {
		if depth > maxNesting {
			return fmt.Errorf(".branches: nested more than %d deep", maxNesting)
		}
		for _, b := range branches {
			if b.Product != nil {
				if err := add(*b.Product); err != nil {
					return err
				}
			}
			if err := walk(b.Branches, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	if err := walk(doc.ProductTree.Branches, 0); err != nil {
		return nil, err
	}
	for _, n := range doc.ProductTree.Names {
		if err := add(n); err != nil {
			return nil, err
		}
	}
	for _, r := range doc.ProductTree.Relationships {
		if err := add(r.Name); err != nil {
			return nil, err
		}
		c.relationships[r.Name.ID] = r
	}
	for _, g := range doc.ProductTree.Groups {
		c.groups[g.ID] = g.Products
	}
	return c, nil
}

// csafStatements returns the statements on one vulnerability: one for each
// status and remark.
func (d *Document) csafStatements(place string, v *csafVulnerability, c *catalogue) (out []Statement, products int, err error) {
	ids := []string{v.CVE}
	for _, id := range v.IDs {
		ids = append(ids, id.Text)
	}
	if ids = identifiers(ids...); len(ids) == 0 {
		return nil, 0, errors.New(": neither cve nor ids")
	}
	for key := range v.Status {
		if key != "recommended" && !slices.ContainsFunc(csafStatuses, func(s csafStatus) bool { return s.key == key }) {
			return nil, 0, fmt.Errorf(".product_status: unknown key %q", clip(key))
		}
	}
	remarks, err := v.remarks(c)
	if err != nil {
		return nil, 0, err
	}
	otherwise := v.claims(c)
	for _, st := range csafStatuses {
		at := map[analyzer.VEXStatement]int{} // one statement for all products of which the same is said
		for _, id := range v.Status[st.key] {
			products++
			said := remarks[id]
			s := analyzer.VEXStatement{Status: st.status, Vulnerability: ids[0], Source: d.Name + ": " + place + ".product_status." + st.key}
			switch st.status {
			case analyzer.VEXNotAffected:
				if s.Justification, s.Impact = said.Justification, said.Impact; s.Justification == "" && s.Impact == "" {
					d.warn("%s.product_status.%s: %s has neither a flag nor a threat of category impact: it counts for nothing", place, st.key, clip(id))
					continue
				}
			case analyzer.VEXAffected:
				s.Action = said.Action
			case analyzer.VEXFixed, analyzer.VEXUnderInvestigation:
			}
			p, warning, err := c.product(id, 0)
			if err != nil {
				return nil, 0, fmt.Errorf(".product_status.%s: %w", st.key, err)
			}
			if warning == "" {
				warning = undatedFix(st.status, []Product{p})
			}
			if warning == "" && st.status == analyzer.VEXNotAffected && p.release != nil {
				warning = contradiction(otherwise[p.pkg.base], &p)
			}
			if warning != "" {
				d.warn("%s.product_status.%s: %s: %s", place, st.key, clip(id), warning)
				continue
			}
			i, ok := at[s]
			if !ok {
				i = len(out)
				at[s] = i
				out = append(out, Statement{VEXStatement: s, IDs: ids})
			}
			out[i].Products = append(out[i].Products, p)
		}
	}
	return out, products, nil
}

// remarks gathers what flags, threats and remediations say of each product.
func (v *csafVulnerability) remarks(c *catalogue) (map[string]analyzer.VEXStatement, error) {
	out := map[string]analyzer.VEXStatement{}
	each := func(list []csafRemark, note func(*analyzer.VEXStatement, *csafRemark)) {
		for i := range list {
			r := &list[i]
			ids := slices.Clone(r.Products)
			for _, g := range r.Groups {
				ids = append(ids, c.groups[g]...)
			}
			for _, id := range ids {
				s := out[id]
				note(&s, r)
				out[id] = s
			}
		}
	}
	for i := range v.Flags {
		if !slices.Contains(justifications, v.Flags[i].Label) {
			return nil, fmt.Errorf(".flags[%d].label: %q is not one of %s", i, clip(v.Flags[i].Label), strings.Join(justifications, ", "))
		}
	}
	each(v.Flags, func(s *analyzer.VEXStatement, r *csafRemark) { s.Justification = r.Label })
	each(v.Threats, func(s *analyzer.VEXStatement, r *csafRemark) {
		if r.Category == "impact" {
			s.Impact = r.Details
		}
	})
	each(v.Remediations, func(s *analyzer.VEXStatement, r *csafRemark) { s.Action = r.Details })
	return out, nil
}

// product returns what a product id means; a warning says why it can match
// nothing. A relationship is a component within another product: within an
// image, or within another package. Within something that only has a CPE (a
// distribution's release or stream) the component counts if it has a version,
// since that cannot be of another stream, or in images whose os-release has that
// CPE. Red Hat's module streams are products in between.
func (c *catalogue) product(id string, depth int) (p Product, warning string, err error) {
	name, ok := c.names[id]
	switch {
	case !ok:
		return Product{}, "", fmt.Errorf("product_id %q is not in the product_tree", clip(id))
	case depth > maxNesting:
		return Product{}, "", fmt.Errorf("product_id %q: relationships are nested more than %d deep", clip(id), maxNesting)
	}
	r, related := c.relationships[id]
	if !related {
		if name.Helper.PURL == "" {
			return Product{}, "no purl: it matches nothing", nil
		}
		if p, err = parseProduct(name.Helper.PURL); err != nil {
			return Product{}, "", fmt.Errorf("product_id %q: %w", clip(id), err)
		}
		return p, p.unmatchable(), nil
	}
	component, warning, err := c.product(r.Reference, depth+1)
	if err != nil || warning != "" {
		return Product{}, warning, err
	}
	whole, missing, err := c.product(r.RelatesTo, depth+1)
	switch {
	case err != nil:
		return Product{}, "", err
	case component.pkg == nil || len(component.subcomponents) > 0:
		return Product{}, "a component that is not a single package: it matches nothing", nil
	case whole.pkg != nil && strings.HasPrefix(whole.pkg.base, "rpmmod/"):
		if component.pkg.version == "" {
			return Product{}, "no version, in a module: it matches nothing", nil
		}
		component.pkg.module = whole.pkg.base[strings.LastIndexByte(whole.pkg.base, '/')+1:] + ":" + whole.pkg.version
		return component, "", nil
	case missing != "" && component.pkg.version == "":
		release, ok := parseCPE(c.names[r.RelatesTo].Helper.CPE)
		if !ok || !release.release() {
			return Product{}, "neither a version nor a purl of what it is in, nor the CPE of an operating system's release: it matches nothing", nil
		}
		component.release = &release
		return component, "", nil
	case missing != "":
		return component, "", nil
	case len(whole.subcomponents) > 0:
		return Product{}, "nested relationships: it matches nothing", nil
	}
	whole.subcomponents = []packagePattern{*component.pkg}
	return whole, "", nil
}

// maxClaims bounds the streams of which something is said of one package.
const maxClaims = 1000

// claim is that something else than "not affected" is said of a package.
type claim struct {
	id, key string
	module  string
	release cpe // of what the package is in; zero = not known
}

// claims returns what else than "not affected" is said, by the package's base.
func (v *csafVulnerability) claims(c *catalogue) map[string][]claim {
	out := map[string][]claim{}
	for _, st := range csafStatuses {
		if st.status == analyzer.VEXNotAffected {
			continue
		}
		for _, id := range v.Status[st.key] {
			p, _, err := c.product(id, 0)
			if err == nil && p.pkg == nil { // it matches nothing, but may contradict
				p, _, err = c.product(c.component(id), 0)
			}
			if err != nil || p.pkg == nil {
				continue // an error is told where the statement is made; an image is no package of a release
			}
			said := claim{id: id, key: st.key, module: p.pkg.module}
			said.release, _ = parseCPE(c.stream(id))
			list := out[p.pkg.base]
			if len(list) < maxClaims && !slices.ContainsFunc(list, func(o claim) bool { return o.module == said.module && o.release == said.release }) {
				out[p.pkg.base] = append(list, said)
			}
		}
	}
	return out
}

// contradiction says why "not affected" in any version of p, a package of a
// release, is not clear: something else that may well be in the same image, such
// as an add-on or a longer supported minor release, has the package as well, and
// of that the document says otherwise. It is "" where all others are of other
// releases.
func contradiction(said []claim, p *Product) string {
	for i := range said {
		if s := &said[i]; !apartModules(s.module, p.pkg.module) && !s.release.apart(p.release) {
			return fmt.Sprintf("any version, but %s is under %s: it matches nothing", clip(s.id), s.key)
		}
	}
	if len(said) == maxClaims {
		return "any version, of a package of which too much is said: it matches nothing"
	}
	return ""
}

// component is the product id of the package that id is a relationship of.
func (c *catalogue) component(id string) string {
	for range maxNesting {
		r, ok := c.relationships[id]
		if !ok {
			break
		}
		id = r.Reference
	}
	return id
}

// stream is the CPE of the outermost product that id is in; "" = none.
func (c *catalogue) stream(id string) string {
	for range maxNesting {
		r, ok := c.relationships[id]
		if !ok {
			break
		}
		id = r.RelatesTo
	}
	return c.names[id].Helper.CPE
}

// apartModules reports whether two labels are of different streams of modules.
func apartModules(a, b string) bool {
	stream := func(label string) string {
		f := strings.SplitN(label, ":", 3)
		return strings.Join(f[:min(2, len(f))], ":")
	}
	return a != "" && b != "" && stream(a) != stream(b)
}
