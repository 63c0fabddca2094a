package policy

import (
	"fmt"
	"time"

	"github.com/sluiceproxy/sluice/analyzer"
)

// hardeningObject are the facts about how an image would run. heading begins
// the sentence about a list that has elements.
func hardeningObject() *object {
	fact := func(name, heading string, get func(*analyzer.Hardening) []string) *field {
		return list(name, func(s *subject) []string { return get(&s.report().Hardening) }).saying(func(s *subject) string {
			if l := get(&s.report().Hardening); len(l) > 0 {
				return heading + ": " + some(l)
			}
			return name + " is empty"
		})
	}
	return newObject("sluice.Hardening",
		truth("root", func(s *subject) bool { return s.report().Hardening.Root }).saying(sayUser),
		fact("unusualSetuid", "setuid or setgid programs", func(h *analyzer.Hardening) []string { return h.UnusualSetuid }),
		fact("worldWritable", "everyone may write to", func(h *analyzer.Hardening) []string { return h.WorldWritable }),
		fact("shells", "has shells", func(h *analyzer.Hardening) []string { return h.Shells }),
		fact("packageManagers", "has package managers", func(h *analyzer.Hardening) []string { return h.PackageManagers }),
		fact("ssh", "has an ssh server", func(h *analyzer.Hardening) []string { return h.SSH }),
		fact("ports", "exposes", func(h *analyzer.Hardening) []string { return h.Ports }),
		truth("healthcheck", func(s *subject) bool { return s.report().Hardening.Healthcheck }),
		fact("addedURLs", "was built with files from", func(h *analyzer.Hardening) []string { return h.AddedURLs }),
		fact("wastedFiles", "deleted or replaced by its own later layers", func(h *analyzer.Hardening) []string { return h.WastedFiles }),
	)
}

// baseObject is what is known of the image below an image.
func baseObject() *object {
	proven := func(s *subject) analyzer.ProvenBase {
		if p := s.report().Base.Proven; p != nil {
			return *p
		}
		return analyzer.ProvenBase{}
	}
	return newObject("sluice.Base",
		text("kind", func(s *subject) string { return string(s.report().Base.Kind) }),      // distribution, minimal, distroless, scratch; "" = not known
		text("name", func(s *subject) string { return s.report().Base.Name }),              // the image's own claim
		text("digest", func(s *subject) string { return s.report().Base.Digest.String() }), // the image's own claim
		truth("pinned", func(s *subject) bool { return s.report().Base.Pinned }),
		truth("claimFalse", func(s *subject) bool { return s.report().Base.ClaimFalse }).saying(sayClaim),
		truth("proven", func(s *subject) bool { return s.report().Base.Proven != nil }).saying(sayProven),
		text("provenName", func(s *subject) string { return proven(s).Name }),
		text("provenDigest", func(s *subject) string { return proven(s).Digest.String() }),
		number("provenLayers", func(s *subject) int64 { return int64(proven(s).Layers) }),
		age("provenAge", func(s *subject) time.Time { return proven(s).Created }, sayProven), // since it was built
		list("names", func(s *subject) []string { // of all known images below
			names := []string{}
			for _, p := range s.report().Base.Known() {
				names = append(names, p.Name)
			}
			return names
		}),
		number("overwritten", func(s *subject) int64 { return int64(overwrites(s).Count) }).saying(sayOverwritten), // files of the proven base that layers above remove or replace
		list("overwrittenFiles", func(s *subject) []string { return overwrites(s).Paths }).saying(sayOverwritten),  // the first 20 of them
	)
}

// overwrites are those of the proven base's files, none where there is no base.
func overwrites(s *subject) analyzer.Overwrites {
	if p := s.report().Base.Proven; p != nil {
		for _, o := range s.report().Overwrites {
			if o.Layers == p.Layers {
				return o
			}
		}
	}
	return analyzer.Overwrites{Paths: []string{}}
}

func sayOverwritten(s *subject) string {
	o := overwrites(s)
	if o.Count == 0 {
		return "no file of the base is overwritten"
	}
	return fmt.Sprintf("overwrites %d files of its base: %s", o.Count, some(o.Paths))
}

func sayClaim(s *subject) string {
	b := s.report().Base
	if !b.ClaimFalse {
		return ""
	}
	return printable(fmt.Sprintf("claims to be built on %s, but its layers are others", b.Digest))
}

func sayProven(s *subject) string {
	if p := s.report().Base.Proven; p != nil {
		return fmt.Sprintf("built on %s@%s", p.Name, p.Digest)
	}
	return "not built on an image that is known here"
}

// expiredField is true once a certificate or token has ended by its own word;
// false where it does not say.
func expiredField() *field {
	end := func(s *subject) time.Time { return s.secret.NotAfter }
	f := truth("expired", func(s *subject) bool { return !end(s).IsZero() && s.Now.After(end(s)) })
	f.turn = func(s *subject) time.Time {
		if end(s).IsZero() {
			return time.Time{}
		}
		return end(s).Add(1)
	}
	return f
}
