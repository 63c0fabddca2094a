// Package policy turns evidence into a verdict.
package policy
