package analyzer

import (
	"strings"
	"time"
)

// lifetimes are the days on which a distribution's release stops to get security
// updates that everyone can have, as published by November 2026. What is sold
// beyond (Ubuntu Pro, Extended LTS, ELS, LTSS) does not count; Debian's LTS is
// for everyone and does. A release that is not listed has no known end.
//
// Debian and Ubuntu are those of distro-info-data 0.58+deb12u7 (columns eol-lts
// and eol). The others were compared with what endoflife.date has collected of
// the vendors' pages (github.com/endoflife-date/endoflife.date, products/*.md;
// RHEL: maintenance support; SLES: general support), but for rhel 10, rocky 10,
// amzn 2 and 2023, sles 15.6 and 15.7, which follow the vendors' announcements.
// Oracle names months: the days of ol are the last of theirs.
var lifetimes = map[string]string{
	"debian 6": "2016-02-29", "debian 7": "2018-05-31", "debian 8": "2020-06-30", "debian 9": "2022-06-30", "debian 10": "2024-06-30",
	"debian 11": "2026-08-31", "debian 12": "2028-06-30", "debian 13": "2030-06-30",

	"ubuntu 12.04": "2017-04-28", "ubuntu 14.04": "2019-04-25", "ubuntu 16.04": "2021-04-30", "ubuntu 18.04": "2023-05-31",
	"ubuntu 20.04": "2025-05-29", "ubuntu 22.04": "2027-06-01", "ubuntu 24.04": "2029-05-31", "ubuntu 26.04": "2031-05-29",
	"ubuntu 18.10": "2019-07-18", "ubuntu 19.04": "2020-01-23", "ubuntu 19.10": "2020-07-17", "ubuntu 20.10": "2021-07-22",
	"ubuntu 21.04": "2022-01-20", "ubuntu 21.10": "2022-07-14", "ubuntu 22.10": "2023-07-20", "ubuntu 23.04": "2024-01-25",
	"ubuntu 23.10": "2024-07-11", "ubuntu 24.10": "2025-07-10", "ubuntu 25.04": "2026-01-15", "ubuntu 25.10": "2026-07-09",
	"ubuntu 26.10": "2027-07-15",

	"alpine 3.0": "2016-05-01", "alpine 3.1": "2016-11-01", "alpine 3.2": "2017-05-01",
	"alpine 3.3": "2017-11-01", "alpine 3.4": "2018-05-01", "alpine 3.5": "2018-11-01", "alpine 3.6": "2019-05-01", "alpine 3.7": "2019-11-01",
	"alpine 3.8": "2020-05-01", "alpine 3.9": "2020-11-01", "alpine 3.10": "2021-05-01", "alpine 3.11": "2021-11-01", "alpine 3.12": "2022-05-01",
	"alpine 3.13": "2022-11-01", "alpine 3.14": "2023-05-01", "alpine 3.15": "2023-11-01", "alpine 3.16": "2024-05-23", "alpine 3.17": "2024-11-22",
	"alpine 3.18": "2025-05-09", "alpine 3.19": "2025-11-01", "alpine 3.20": "2026-04-01", "alpine 3.21": "2026-11-01", "alpine 3.22": "2027-05-01",
	"alpine 3.23": "2027-11-01",

	"rhel 4": "2012-02-29", "rhel 5": "2017-03-31", "rhel 6": "2020-11-30", "rhel 7": "2024-06-30", "rhel 8": "2029-05-31", "rhel 9": "2032-05-31", "rhel 10": "2035-05-31",
	"almalinux 8": "2029-03-01", "almalinux 9": "2032-05-31", "almalinux 10": "2035-05-31",
	"rocky 8": "2029-05-31", "rocky 9": "2032-05-31", "rocky 10": "2035-05-31",
	"centos 5": "2017-03-31", "centos 6": "2020-11-30", "centos 7": "2024-06-30", "centos 8": "2021-12-31", "centos stream 8": "2024-05-31", "centos stream 9": "2027-05-31",
	"ol 6": "2021-03-31", "ol 7": "2024-12-31", "ol 8": "2029-07-31", "ol 9": "2032-06-30",

	"fedora 30": "2020-05-26", "fedora 31": "2020-11-24", "fedora 32": "2021-05-25", "fedora 33": "2021-11-30", "fedora 34": "2022-06-07",
	"fedora 35": "2022-12-13", "fedora 36": "2023-05-16", "fedora 37": "2023-12-05", "fedora 38": "2024-05-21", "fedora 39": "2024-11-26",
	"fedora 40": "2025-05-13", "fedora 41": "2025-12-15", "fedora 42": "2026-05-13", "fedora 43": "2026-12-09",

	"amzn 2018.03": "2023-12-31", "amzn 2": "2026-06-30", "amzn 2023": "2029-06-30",
	"mariner 1.0": "2023-08-31", "mariner 2.0": "2025-07-31", "azurelinux 3.0": "2027-08-31",

	"opensuse-leap 15.0": "2019-12-03", "opensuse-leap 15.1": "2021-02-02", "opensuse-leap 15.2": "2022-01-04", "opensuse-leap 15.3": "2022-12-31",
	"opensuse-leap 15.4": "2023-12-07", "opensuse-leap 15.5": "2024-12-31", "opensuse-leap 15.6": "2026-04-30", "opensuse-leap 16.0": "2027-10-31",
	"sles 11.4": "2019-03-31", "sles 12": "2016-06-30", "sles 12.1": "2017-05-31", "sles 12.2": "2018-03-31", "sles 12.3": "2019-06-30", "sles 12.4": "2020-06-30", "sles 12.5": "2024-10-31", "sles 15": "2019-12-31", "sles 15.1": "2021-01-31",
	"sles 15.2": "2021-12-31", "sles 15.3": "2022-12-31", "sles 15.4": "2023-12-31", "sles 15.5": "2024-12-31", "sles 15.6": "2025-12-31",
	"sles 15.7": "2031-07-31",
}

// endOfLife returns the end of the last day of a release's security updates
// (UTC), or the zero time where it is not known.
func endOfLife(rel OSRelease) time.Time {
	id, version := rel.ID, rel.VersionID
	switch id {
	case "debian":
		if version == "" {
			version = debianReleases[rel.Codename]
		}
		version, _, _ = strings.Cut(version, ".")
	case "rhel", "almalinux", "rocky", "ol", "centos":
		version, _, _ = strings.Cut(version, ".")
		if id == "centos" && strings.Contains(rel.Name, "Stream") {
			id = "centos stream"
		}
	case "alpine":
		version, _, _ = strings.Cut(version, "_")
		if p := strings.SplitN(version, ".", 3); len(p) == 3 {
			version = p[0] + "." + p[1]
		}
	}
	day, err := time.Parse(time.DateOnly, lifetimes[id+" "+version])
	if err != nil {
		return time.Time{}
	}
	return day.AddDate(0, 0, 1)
}
