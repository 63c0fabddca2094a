//go:build !linux

package proxy

import "net"

// tune leaves connections as they are: there is no TCP_INFO to go by.
func tune(net.Conn) {}
