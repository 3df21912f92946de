//go:build faults

package analyze

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// planted are faults in this package, each of which its tests have to find: what is written
// there, and what is put in its place.
var planted = []struct{ name, file, was, becomes string }{
	{"an encryption context that is asked for is there", "pairs.go", "\t\t\twalk(i+1, so)\n", "\t\t\tif len(so) > 0 {\n\t\t\t\twalk(i+1, so)\n\t\t\t}\n"},
	{"ForAllValues of no value is false", "space.go", "all, some, empty := yes, no, yes", "all, some, empty := no, no, yes"},
	{"ForAllValues is ForAnyValue", "space.go", "\t\treturn all\n", "\t\treturn some\n"},
	{"a key with several values is there although it has none", "space.go", "s.or(s.and(empty, constant(t.Empty())), s.minus(constant(t.Present()), empty))", "constant(t.Present())"},
	{"a star does not go across colons", "language.go", "i.class = anyone", "i.class = noColon"},
	{"whatever its case, lower", "language.go", "return sameFold(r, i.char)", "return r == unicode.ToLower(i.char)"},
	{"at least is more than", "values.go", "[]float64{math.Floor(n) - 1, math.Floor(n), math.Ceil(n), math.Ceil(n) + 1}", "[]float64{math.Floor(n) - 1, math.Ceil(n) + 1}"},
	{"no time just before", "values.go", "[]time.Time{at.Add(-time.Second), at, at.Add(time.Second), at.Add(2 * time.Second)}", "[]time.Time{at, at.Add(2 * time.Second)}"},
	{"no address in a range", "values.go", "first, first.Prev(), lastOf(s.Prefix), lastOf(s.Prefix).Next())", "first.Prev(), lastOf(s.Prefix).Next())"},
	{"an encryption context in one spelling", "pairs.go", "others = append(others, more...)", "_ = more"},
	{"accounts that patterns tell apart are alike", "callers.go", "way += string(appendBytes(nil, at))", "way += service"},
	{"who is named in one account is in no other", "callers.go", "found, err := withAvoided(universes, all, n.arns.list)", "found, err := samples(universes, all, n.arns.list)"},
	{"roles have no path", "callers.go", `entity("iam", "role/", path), `, ""},
	{"whose session it is does not matter", "callers.go", `if strings.HasSuffix(other, "/"+role)`, "if false"},
	{"nobody is without a named id", "callers.go", "\t\t\tc.EntityID = id\n", "\t\t\tc.EntityID = \"\"\n"},
	{"permissions boundaries do not matter", "callers.go", "n.bounded = n.bounded || r.Statement.NotPrincipal", "n.bounded = false"},
	{"the root user has tags", "callers.go", "(isService || who.Kind == policy.RootUser)", "isService"},
	{"other accounts need no policy of their own", "question.go", "s.and(s.or(direct, s.or(limited, delegated)), own)", "s.or(direct, s.or(limited, delegated))"},
	{"delegation allows by itself", "question.go", "s.and(delegated, own)", "delegated"},
	{"Deny does not come first", "question.go", "\treturn s.minus(allow, v.deny)\n}\n\n// possible", "\treturn allow\n}\n\n// possible"},
	{"classes that meet nowhere are joined", "diagram.go", "classes = x.classes.and(y.classes)\n\t\t\t} else", "classes = x.classes.or(y.classes)\n\t\t\t} else"},
	{"implied by anything", "diagram.go", "case a == yes || b == no:\n\t\treturn false", "case a == yes || b == no:\n\t\treturn true"},
	{"restricted where it matters", "diagram.go", "if y.to == no {", "if y.to == yes {"},
	{"samples that tests tell apart become one", "space.go", "ways.WriteByte(digitOf(t.Holds(at)))", "ways.WriteByte('0')"},
}

// Each planted fault makes a test fail.
func TestPlantedFaults(t *testing.T) {
	for _, fault := range planted {
		t.Run(fault.name, func(t *testing.T) {
			path, err := filepath.Abs(fault.file)
			if err != nil {
				t.Fatal(err)
			}
			source, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(source), fault.was); n != 1 {
				t.Fatalf("%q is %d times in %s", fault.was, n, fault.file)
			}
			folder := t.TempDir()
			changed, overlay := filepath.Join(folder, fault.file), filepath.Join(folder, "overlay.json")
			list, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
			for file, content := range map[string][]byte{changed: []byte(strings.Replace(string(source), fault.was, fault.becomes, 1)), overlay: list} {
				if err == nil {
					err = os.WriteFile(file, content, 0o600)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("go", "test", "-overlay", overlay, "-failfast", "-count", "1", "-analyze.rounds", "2000", ".").CombinedOutput()
			switch {
			case err == nil:
				t.Error("no test fails")
			case strings.Contains(string(out), "[build failed]"):
				t.Errorf("%s", out)
			default:
				_, failed, _ := strings.Cut(string(out), "--- FAIL: ")
				failed, _, _ = strings.Cut(failed, "\n")
				t.Log("found by", failed)
			}
		})
	}
}
