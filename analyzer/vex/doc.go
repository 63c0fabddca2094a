// Package vex reads VEX documents (Vulnerability Exploitability eXchange): what
// a vendor or an operator says of vulnerabilities in products.
//
//	bytes ──Parse──▶ Document (OpenVEX 0.2, CSAF VEX 2.0), strictly
//	Documents ──NewSet──▶ Set, which marks the findings of a report
//
// The readers are our own: what is read of both formats is small, and a
// statement that is read wrongly hides a vulnerability.
//
// Matching is exact, and where a document leaves room it stays silent:
//   - A purl with a version means that version, one without means every version
//     (github.com/package-url/purl-spec). Each qualifier that it has must be the
//     package's. arch=source and arch=src mean the source package.
//   - An image (pkg:oci/…) is named by its digest, or by its repository_url and
//     tag. With subcomponents only those of its packages are meant.
//   - Subcomponents of a package are those in the same file, or those that it
//     installed.
//   - A package in a release of an operating system that is named by its CPE (CSAF)
//     is that of images whose os-release has a CPE that it includes.
//   - "fixed" without a version or digest does not say in which build, and means
//     nothing.
//   - A finding that stands for several CVEs is suppressed if each of them is.
//
// Of several statements on a finding the latest counts, in one document the
// last. What can never match (a product without purl, a CPE alone) is listed in
// Document.Warnings.
//
// Invariants: a document with any fault gives no statements at all; a broken
// purl in a package of the image matches nothing.
package vex
