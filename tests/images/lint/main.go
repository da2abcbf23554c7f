// Reads a Dockerfile with BuildKit's own frontend, as `docker build` does, and prints as JSON what its linter says and
// the image configuration that the build would give. Base images are not fetched: one here says what python's says, as
// far as it matters. The workflow's linter is a tool of this module.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/opencontainers/go-digest"
)

type warning struct {
	Rule    string `json:"rule"`
	Message string `json:"message"`
	Line    int    `json:"line"`
}

type base struct{ asked []string }

func (b *base) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	b.asked = append(b.asked, ref)
	config := []byte(`{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/usr/local/bin:/usr/bin:/bin"],"Cmd":["python3"]}}`)
	return ref, digest.FromBytes(config), config, nil
}

func check(path string) (map[string]any, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	warnings := []warning{}
	bases := &base{}
	result, err := dockerfile2llb.Dockerfile2LLB(context.Background(), text, dockerfile2llb.ConvertOpt{
		MetaResolver: bases,
		SourceMap:    llb.NewSourceMap(nil, path, "Dockerfile", text),
		Warn: func(rule, _, _, message string, location []parser.Range) {
			line := 0
			if len(location) > 0 {
				line = location[0].Start.Line
			}
			warnings = append(warnings, warning{rule, message, line})
		},
	})
	if err != nil {
		return nil, err
	}
	return map[string]any{"warnings": warnings, "bases": bases.asked, "config": result.Image.Config}, nil
}

func main() {
	found, err := check(os.Args[1])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(found)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
