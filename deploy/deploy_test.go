package deploy

import (
	"context"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"
)

// flags are those that serve has.
func flags(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("go", "run", "./cmd/claviger", "serve", "--help")
	cmd.Dir = ".."
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^\s+--?([a-z0-9-]+)`).FindAllStringSubmatch(string(out), -1) {
		names = append(names, m[1])
	}
	return names
}

// known checks that all flags in what is started are ones that serve has.
func known(t *testing.T, names []string, words []string) {
	t.Helper()
	found := 0
	for _, w := range words {
		name, ok := strings.CutPrefix(w, "--")
		if !ok {
			continue
		}
		found++
		name, _, _ = strings.Cut(name, "=")
		if !slices.Contains(names, name) {
			t.Errorf("serve has no flag --%s", name)
		}
	}
	if found < 5 {
		t.Errorf("only %d flags in %q", found, words)
	}
}

func render(t *testing.T, values map[string]any) (map[string]string, error) {
	t.Helper()
	c, err := loader.Load("helm/claviger")
	if err != nil {
		t.Fatal(err)
	}
	all, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: "kms", Namespace: "secrets"}, chartutil.DefaultCapabilities)
	if err != nil {
		t.Fatal(err)
	}
	return engine.Render(c, all)
}

// TestHelm renders the chart as it is for a cluster with TLS, and to try it without, and
// decodes what comes of it strictly into what Kubernetes knows.
func TestHelm(t *testing.T) {
	names := flags(t)
	for name, values := range map[string]map[string]any{
		"TLS": {"etcd": map[string]any{"endpoints": []any{"e1:2379", "e2:2379", "e3:2379"}, "tlsSecret": "etcd-tls"}, "rootKeySecret": "root", "tls": map[string]any{"secret": "kms-tls"},
			"extraArgs": []any{"--audit-sync=always"}, "storage": map[string]any{"class": "fast", "size": "5Gi"}},
		"plain": {"etcd": map[string]any{"endpoints": []any{"e1:2379"}, "insecure": true}, "rootKeySecret": "root", "tls": map[string]any{"insecure": true}},
	} {
		t.Run(name, func(t *testing.T) {
			rendered, err := render(t, values)
			if err != nil {
				t.Fatal(err)
			}
			kinds := map[string]int{}
			for file, text := range rendered {
				if strings.HasSuffix(file, "NOTES.txt") {
					if !strings.Contains(text, "exec kms-0 -- /claviger cluster status") {
						t.Errorf("the notes are\n%s", text)
					}
					continue
				}
				for document := range documents(t, text) {
					kind := decode(t, file, document, names)
					kinds[kind]++
				}
			}
			if kinds["StatefulSet"] != 1 || kinds["Service"] != 2 || kinds["PodDisruptionBudget"] != 1 {
				t.Errorf("rendered %v", kinds)
			}
		})
	}
	if _, err := render(t, map[string]any{"etcd": map[string]any{"endpoints": []any{"e1:2379"}, "insecure": true}, "rootKeySecret": "root", "tls": map[string]any{"insecure": true}, "drainDelay": "1m"}); err == nil ||
		!strings.Contains(err.Error(), "seconds, as 5s") {
		t.Errorf("with a delay in minutes: %v", err)
	}
	if _, err := render(t, map[string]any{}); err == nil || !strings.Contains(err.Error(), "say where the members are") {
		t.Errorf("without values: %v", err)
	}
}

func documents(t *testing.T, text string) func(func([]byte) bool) {
	return func(visit func([]byte) bool) {
		r := yaml.NewYAMLReader(newReader(text))
		for {
			d, err := r.Read()
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(strings.TrimSpace(string(d))) > 0 && !visit(d) {
				return
			}
		}
	}
}

func decode(t *testing.T, file string, document []byte, names []string) string {
	t.Helper()
	var what struct{ Kind string }
	if err := sigsyaml.Unmarshal(document, &what); err != nil {
		t.Fatalf("%s: %v\n%s", file, err, document)
	}
	var into any
	switch what.Kind {
	case "StatefulSet":
		into = &appsv1.StatefulSet{}
	case "Service":
		into = &corev1.Service{}
	case "PodDisruptionBudget":
		into = &policyv1.PodDisruptionBudget{}
	default:
		t.Fatalf("%s: a %q", file, what.Kind)
	}
	if err := sigsyaml.UnmarshalStrict(document, into); err != nil {
		t.Fatalf("%s: %v\n%s", file, err, document)
	}
	s, ok := into.(*appsv1.StatefulSet)
	if !ok {
		return what.Kind
	}
	pod := s.Spec.Template.Spec
	known(t, names, pod.Containers[0].Args)
	volumes := map[string]bool{"data": true}
	for _, v := range pod.Volumes {
		volumes[v.Name] = true
	}
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				t.Errorf("%s mounts %s, which there is not", c.Name, m.Name)
			}
		}
	}
	return what.Kind
}

// TestCompose loads the compose file as docker compose does.
func TestCompose(t *testing.T) {
	options, err := cli.NewProjectOptions([]string{"compose/compose.yaml"}, cli.WithoutEnvironmentResolution)
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	names := flags(t)
	nodes, members := 0, 0
	for name, s := range project.Services {
		if strings.HasPrefix(name, "n") {
			nodes++
			known(t, names, s.Command)
		} else {
			members++
			if s.Environment["ETCD_NAME"] == nil || *s.Environment["ETCD_NAME"] != name {
				t.Errorf("the member %s is called otherwise", name)
			}
		}
	}
	if nodes != 3 || members != 3 {
		t.Errorf("%d nodes and %d members", nodes, members)
	}
}

// TestSystemd has systemd look at the units.
func TestSystemd(t *testing.T) {
	names := flags(t)
	for _, unit := range []string{"claviger.service", "etcd.service"} {
		path := filepath.Join("systemd", unit)
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", path).CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if !strings.Contains(line, "is not executable") { // there is no such program here
				t.Errorf("%s: %s", unit, line)
			}
		}
		if err != nil && len(out) == 0 {
			t.Error(err)
		}
	}
	text := read(t, "systemd/claviger.service")
	_, command, _ := strings.Cut(text, "ExecStart=")
	command, _, _ = strings.Cut(command, "\nUser=")
	known(t, names, strings.Fields(command))
}
