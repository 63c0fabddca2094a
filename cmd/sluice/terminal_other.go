//go:build !unix

package main

import "os"

// terminalWidth says that f is no terminal: output is plain on other systems.
func terminalWidth(*os.File) (int, bool) { return 0, false }
