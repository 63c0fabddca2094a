package main

import (
	"context"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/cmd/sluice/target"
	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/lock"
)

func newLockVerify() *cobra.Command {
	f := &lockFlags{}
	var key string
	cmd := &cobra.Command{
		Use:   "verify [IMAGE...]",
		Short: "Check the lock's signature and content, and images against it",
		Long: `Verify checks that the lock is well-formed, not expired and, with --key, signed.
Each image's digest is asked of its registry and looked up.

Exit codes: 0 all is well, 1 an image is not as published or the lock has expired,
2 the lock is malformed or not signed by the key, 3 a registry could not be asked.`,
		Example: `  sluice lock verify --lock images.lock --key lock.pub
  sluice lock verify --key lock.pub debian:bookworm debian@sha256:…`,
		RunE: func(cmd *cobra.Command, args []string) error { return verifyLock(cmd, f, key, args) },
	}
	f.register(cmd)
	cmd.Flags().StringVar(&key, "key", "", "public key that must have signed the lock; without it the signature is not looked at")
	return cmd
}

func verifyLock(cmd *cobra.Command, f *lockFlags, key string, images []string) error {
	now := time.Now()
	l, err := f.open(key)
	if err != nil {
		return usageError(err)
	}
	id := l.ID()
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: serial %d, %s, %s\n", f.lock, id.Serial, id.Digest, lockExpiry(l, now)); err != nil {
		return err
	}
	stale := !l.Expires().IsZero() && now.After(l.Expires())
	bad := stale
	if len(images) > 0 {
		opts, err := f.targets(cmd)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		for _, spec := range images {
			listing, digest, err := lookUp(cmd.Context(), l, spec, opts, now)
			if err != nil {
				return err
			}
			bad = bad || listing.Publication != signing.Published
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", listing.Publication, printable(spec), digest, printable(listing.Reason+listing.Warning))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if bad {
		return &exitError{exitDenied, nil}
	}
	return nil
}

// open opens the lock with the public key, or unsigned without one.
func (f *lockFlags) open(key string) (*lock.Lock, error) {
	spec := signing.Lock{Name: f.lock, Material: signing.Material{File: f.lock}, Unsigned: key == "", WarnStale: true}
	if key != "" {
		spec.Signature = signing.Material{File: f.signatureFile(), Optional: f.signature == ""}
		spec.SignedBy = &signing.KeyRing{Keys: []signing.Key{{Material: signing.Material{File: key}}}}
	}
	loaded, err := spec.Load(os.ReadFile)
	if err != nil {
		return nil, err
	}
	return lock.Open(loaded)
}

func lockExpiry(l *lock.Lock, now time.Time) string {
	switch at := l.Expires(); {
	case at.IsZero():
		return "never expires"
	case now.After(at):
		return "expired " + at.Format(time.RFC3339)
	default:
		return "expires " + at.Format(time.RFC3339)
	}
}

// lookUp asks the registry what the reference names and the lock what it says of
// that.
func lookUp(ctx context.Context, l *lock.Lock, spec string, opts target.Options, now time.Time) (signing.Listing, string, error) {
	t, reference, err := target.Repository(spec, opts)
	if err != nil {
		return signing.Listing{}, "", err
	}
	m, err := t.Source.Manifest(ctx, reference)
	if err != nil {
		return signing.Listing{}, "", fmt.Errorf("%s: %w", spec, err)
	}
	s := signing.Subject{Name: t.Name, Tags: t.Tags}
	s.Desc.Digest, s.Desc.MediaType, s.Desc.Size = m.Digest, m.MediaType, int64(len(m.Raw))
	return l.Listed(&s, now), m.Digest.String(), nil
}
