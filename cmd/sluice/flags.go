package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/configs"
)

// loadConfig returns the configuration of a command: defaults, file ("" =
// none), environment, then the flags, of which --data is applied here and the
// others by overrides.
func loadConfig(cmd *cobra.Command, file string, overrides ...func(*configs.Config)) (*configs.Config, error) {
	c, err := configs.Load(file, os.Environ(), append(overrides, func(c *configs.Config) {
		if data, err := cmd.Flags().GetString("data"); err == nil && data != "" {
			c.Data = data
		}
	})...)
	if err != nil {
		return nil, usageError(err)
	}
	return c, nil
}

// addUpstreams returns an override that adds the upstreams of --upstream flags.
func addUpstreams(flags []string) (func(*configs.Config), error) {
	ups := map[string]configs.Upstream{}
	for _, f := range flags {
		name, u, err := configs.ParseUpstreamFlag(f)
		if err != nil {
			return nil, usageError(err)
		}
		ups[name] = u
	}
	return func(c *configs.Config) {
		for name, u := range ups {
			old := c.Upstreams[name]
			old.URL = u.URL
			c.Upstreams[name] = old
		}
	}, nil
}

// overrideString sets a value of the configuration to that of a flag, if the
// flag was given.
func overrideString(cmd *cobra.Command, flag string, set func(*configs.Config, string)) func(*configs.Config) {
	return func(c *configs.Config) {
		if f := cmd.Flags().Lookup(flag); f != nil && f.Changed {
			set(c, f.Value.String())
		}
	}
}
