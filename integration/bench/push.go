//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// push puts an image into a registry.
func (s *server) push(ctx context.Context, img *image) error {
	base := "http://" + s.address + "/v2/" + img.repository
	for _, d := range append([]ocispec.Descriptor{img.members.Config}, img.members.Layers...) {
		var body io.Reader = bytes.NewReader(img.config)
		if path, ok := img.layers[d.Digest]; ok {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			body = f
		}
		if err := pushBlob(ctx, base, d, body); err != nil {
			return fmt.Errorf("push %s: %w", d.Digest, err)
		}
	}
	_, err := call(ctx, http.MethodPut, base+"/manifests/"+tag, ocispec.MediaTypeImageManifest, int64(len(img.manifest)), bytes.NewReader(img.manifest))
	return err
}

func pushBlob(ctx context.Context, base string, d ocispec.Descriptor, body io.Reader) error {
	head, err := call(ctx, http.MethodPost, base+"/blobs/uploads/", "", 0, nil)
	if err != nil {
		return err
	}
	at, err := url.Parse(base)
	if err != nil {
		return err
	}
	location, err := at.Parse(head.Get("Location")) // it may be relative
	if err != nil {
		return err
	}
	q := location.Query()
	q.Set("digest", d.Digest.String())
	location.RawQuery = q.Encode()
	_, err = call(ctx, http.MethodPut, location.String(), "application/octet-stream", d.Size, body)
	return err
}

// call sends a request and returns the headers of an answer of 200 to 299.
func call(ctx context.Context, method, target, mediaType string, size int64, body io.Reader) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s %s: %s %s", method, target, resp.Status, text)
	}
	return resp.Header, nil
}

// httpGet returns the body of an answer of 200.
func httpGet(ctx context.Context, target string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", target, resp.Status)
	}
	return io.ReadAll(resp.Body)
}
