package main

import (
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/proxy/api"
)

func newRobot() *cobra.Command {
	c := &client{}
	cmd := &cobra.Command{
		Use:   "robot",
		Short: "Show, make and remove the secrets of machines that push and pull",
		Long: `A robot is a name with a secret. It logs in with both, as a user does, or sends
the secret as a bearer token; rules know it as robot:NAME. What it may do is
said by auth.rules of the server, and nothing without them.`,
		Example: `  sluice robot add ci-shop --expires 2160h
  sluice robot list
  sluice robot remove ci-shop

  podman login registry.example.org --username ci-shop --password-stdin`,
	}
	c.register(cmd)
	cmd.AddCommand(newRobotList(c), newRobotAdd(c), newRobotRemove(c))
	return cmd
}

func newRobotList(c *client) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the robots, expired ones too",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all api.Robots
			if err := c.do(cmd.Context(), http.MethodGet, "/robots", nil, nil, &all); err != nil {
				return err
			}
			if c.format == "json" {
				return writeIndented(cmd.OutOrStdout(), all.Items)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			_, _ = fmt.Fprintln(w, "NAME\tSTATE\tOWNER\tCREATED\tEXPIRES")
			for _, r := range all.Items {
				expires := "never"
				if !r.Expires.IsZero() {
					expires = r.Expires.UTC().Format("2006-01-02 15:04 UTC")
				}
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.Name, r.State, printable(r.Owner), r.Created.UTC().Format("2006-01-02 15:04 UTC"), expires)
			}
			return w.Flush()
		},
	}
}

func newRobotAdd(c *client) *cobra.Command {
	var owner, until string
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Make a robot and print its secret, which is shown only now",
		Long: `The secret goes to standard output, alone on its line, and nowhere else: the
server keeps its hash. A lost one cannot be shown again; remove the robot and
make another.`,
		Example: `  sluice robot add ci-shop --expires 2160h > secret
  sluice robot add nodes --owner platform-team --expires 2027-06-30`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]string{"name": args[0], "owner": owner}
			if until != "" {
				t, err := expiry(until, time.Now())
				if err != nil {
					return err
				}
				body["expires"] = t.UTC().Format(time.RFC3339)
			}
			var added api.Robot
			if err := c.do(cmd.Context(), http.MethodPost, "/robots", nil, body, &added); err != nil {
				return rejected(err)
			}
			if c.format == "json" {
				return writeIndented(cmd.OutOrStdout(), added)
			}
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "robot:%s in rules; log in as %s with this secret:\n", added.Name, added.Name)
			_, err := fmt.Fprintln(cmd.OutOrStdout(), added.Secret)
			return err
		},
	}
	cmd.Flags().StringVar(&owner, "owner", operator(), "who answers for it")
	cmd.Flags().StringVar(&until, "expires", "", "end: a time (RFC 3339), a date or a duration such as 2160h (default never)")
	return cmd
}

func newRobotRemove(c *client) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "End a robot, and the tokens that it has got",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := c.do(cmd.Context(), http.MethodDelete, "/robots/"+url.PathEscape(args[0]), nil, nil, nil)
			switch {
			case notFound(err):
				return fmt.Errorf("there is no robot %s", args[0])
			case err != nil:
				return err
			case c.format == "json":
				return writeIndented(cmd.OutOrStdout(), map[string]string{"removed": args[0]})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is removed\n", args[0])
			return err
		},
	}
}
