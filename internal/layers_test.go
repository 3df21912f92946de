package internal_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/claviger/claviger/"

// arrows are the imports of our own that each package may have; docs/architecture.md
// draws them. cmd, server, kmstest and scenario/stage, which put the parts together,
// may import everything.
var arrows = map[string]string{
	"internal/accessanalyzer":      "analyze arn findings iam inquire kms model model/analyzerapi policy store",
	"internal/advisor":             "analyze arn audit iam inquire model policy store",
	"internal/analyze":             "arn authz policy",
	"internal/arn":                 "",
	"internal/attest":              "",
	"internal/attest/attesttest":   "",
	"internal/audit":               "durable",
	"internal/durable":             "",
	"internal/durable/disktest":    "",
	"internal/durable/powertest":   "",
	"internal/authz":               "arn policy",
	"internal/findings":            "analyze arn policy",
	"internal/foreign":             "arn iam kms policy store",
	"internal/front":               "",
	"internal/harden":              "",
	"internal/iam":                 "arn audit authz material model model/iamapi policy store",
	"internal/inquire":             "analyze arn audit authz iam kms policy store",
	"internal/kms":                 "arn attest audit authz iam material model model/kmsapi policy store throttle xks",
	"internal/material":            "",
	"internal/model":               "",
	"internal/model/analyzerapi":   "model",
	"internal/model/iamapi":        "model",
	"internal/model/kmsapi":        "model",
	"internal/model/orgapi":        "model",
	"internal/model/stsapi":        "model",
	"internal/oidc":                "",
	"internal/operate":             "durable seal server store",
	"internal/org":                 "arn audit authz iam model model/orgapi policy store",
	"internal/peer":                "store",
	"internal/policy":              "arn",
	"internal/scenario":            "arn authz policy",
	"internal/seal":                "durable",
	"internal/ship":                "",
	"internal/sigv4":               "",
	"internal/store":               "material",
	"internal/store/bolt":          "store durable harden",
	"internal/store/etcd":          "store",
	"internal/store/etcd/etcdtest": "",
	"internal/sts":                 "arn audit authz iam model model/stsapi oidc policy store",
	"internal/wire":                "accessanalyzer advisor arn audit front iam inquire kms model model/analyzerapi model/iamapi model/kmsapi model/orgapi model/stsapi model/tagapi model/trailapi org peer policy ship sigv4 store sts tagging trail",
	"internal/model/tagapi":        "model",
	"internal/tagging":             "iam kms model model/tagapi policy",
	"internal/throttle":            "",
	"internal/model/trailapi":      "model",
	"internal/trail":               "audit iam model model/trailapi policy store",
	"internal/xks":                 "sigv4",
	"internal/xks/xkstest":         "sigv4",
	"tools/modelgen":               "",
	"tools/regenerated":            "",
}

// free packages may import everything of ours.
var free = []string{"cmd/claviger", "tools/cells", "internal/leakcheck", "internal/scenario/stage", "internal/server", "internal/server/historytest", "kmstest", "tools/capacity", "tools/kmsclient", "tools/wholerequest", "tools/compatibility", "tools/rules"}

// pure packages do no I/O and read no environment.
var pure = []string{"internal/arn", "internal/policy", "internal/authz", "internal/analyze", "internal/findings"}

// TestLayers reads the import lists of all packages and holds the drawing.
func TestLayers(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		name := strings.TrimPrefix(words[0], module)
		allowed, known := arrows[name]
		if !known && !slices.Contains(free, name) && name != "internal" && name != strings.TrimSuffix(module, "/") {
			t.Errorf("%s has no place in the drawing", name)
		}
		for _, imported := range words[1:] {
			ours, ok := strings.CutPrefix(imported, module)
			if ok && known && !slices.Contains(strings.Fields(allowed), strings.TrimPrefix(ours, "internal/")) {
				t.Errorf("%s imports %s", name, ours)
			}
			if slices.Contains(pure, name) && slices.Contains([]string{"os", "net", "net/http", "log/slog", "io/fs"}, imported) {
				t.Errorf("%s imports %s, but is to be pure", name, imported)
			}
		}
	}
}
