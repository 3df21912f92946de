package clients

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// A playbook that makes a role and a key for it changes things once: the second
// run finds everything as it should be.
func TestAnsible(t *testing.T) {
	t.Parallel()
	// Debian's Ansible brings the collections, and runs with Debian's Python.
	installDebian(t, func() bool {
		_, err := os.Stat("/usr/lib/python3/dist-packages/boto3")
		return err == nil && onPath("ansible-playbook")()
	}, "ansible", "python3-boto3")
	playbook, err := filepath.Abs(filepath.Join("testdata", "playbook.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ansible := program{path: "ansible-playbook", dir: dir, env: []string{
		"AWS_URL=" + plainURL, "ANSIBLE_HOME=" + dir, "ANSIBLE_LOCALHOST_WARNING=false", "ANSIBLE_NOCOLOR=1",
	}, args: []string{playbook, "-i", "localhost,", "-c", "local", "-e", "ansible_python_interpreter=/usr/bin/python3"}}

	for _, c := range []struct {
		run, changed string
		args         []string
	}{
		{"the first run", "3", nil},
		{"the second run", "0", nil},
		{"a run with another tag", "1", []string{"-e", "team=red"}},
		{"the run after that", "0", []string{"-e", "team=red"}},
	} {
		out := ansible.run(t, c.args...)
		if got := regexp.MustCompile(`changed=(\d+)`).FindStringSubmatch(out); got == nil || got[1] != c.changed {
			t.Errorf("%s: want changed=%s: %s", c.run, c.changed, out)
		}
	}
	alias := "alias/ansible"
	tags, err := kmsClient(region).DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &alias})
	if err != nil {
		t.Fatal(err)
	}
	list, err := kmsClient(region).ListResourceTags(t.Context(), &kms.ListResourceTagsInput{KeyId: tags.KeyMetadata.Arn})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Tags) != 1 || *list.Tags[0].TagKey != "team" || *list.Tags[0].TagValue != "red" {
		t.Errorf("tags %+v", list.Tags)
	}
}
