// Command accuracy compares what `sluice scan` finds in real images with what
// the systems' own tools list, and its findings with those that a second, simple
// reading of the advisories implies:
//
//	go run ./integration/accuracy [-write] [-only REGEXP] [-work DIR] [-sluice FILE]
//
//	images.go    builds the images: root file systems, debootstrap, npm, go build, …
//	installed.go asks dpkg-query, rpm, go, npm, python, ruby what is installed
//	implied.go   reads the OSV archives and says which advisories apply
//	version.go   compares versions with dpkg and rpm where there is such a tool
//	scan.go      runs the program as a user does and reads its JSON
//	table.go     one row for each image, and every difference below the table
//
// Nothing of the analyzer is imported, so no error of it can be on both sides.
// What a tool or the network is missing for is a row that says so. The exit
// status is 1 if the two sides differ anywhere.
//
// It needs root (chroot, debootstrap), Debian's mirror, the npm registry, the Go
// module proxy, and ../shared/data or SLUICE_TEST_DATA.
package main
