package records

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

const (
	defaultLimit = 100
	maxLimit     = 500
)

// pageLimit brings a limit into its bounds; zero and less mean the default.
func pageLimit(n int) int {
	if n <= 0 {
		return defaultLimit
	}
	return min(n, maxLimit)
}

// pageToken names the place after the row seq of the list, the newest first.
func pageToken(list string, seq int64) string {
	return base64.RawURLEncoding.EncodeToString([]byte(list + ":" + strconv.FormatInt(seq, 10)))
}

// parsePageToken returns the row that the page starts after; 0 for the first
// page. A token of another list, or none of ours, is ErrInvalid.
func parsePageToken(list, token string) (int64, error) {
	if token == "" {
		return 0, nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err == nil {
		if text, ok := strings.CutPrefix(string(b), list+":"); ok {
			if seq, err := strconv.ParseInt(text, 10, 64); err == nil && seq > 0 && pageToken(list, seq) == token {
				return seq, nil
			}
		}
	}
	return 0, fmt.Errorf("%w page token", ErrInvalid)
}
