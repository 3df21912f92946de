//go:build smt

package analyze

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/policy"
)

// A second reading of conditions, as formulas over strings and numbers, and a solver of others:
// what it says of two policies is what the analysis says. It shares with the analysis the
// parser of documents, and nothing else.

// smtKeys are condition keys that a request to decrypt can have or not, independently, with
// what their values are.
var smtKeys = []struct{ key, sort string }{
	{"kms:EncryptionContext:app", "String"}, {"kms:EncryptionContext:tenant", "String"}, {"aws:PrincipalTag/team", "String"}, {"aws:PrincipalTag/level", "String"},
	{"aws:SourceIdentity", "String"}, {"kms:RequestAlias", "String"},
}

// A solver is a process that answers whether formulas can be true.
type solver struct {
	in  io.Writer
	out *bufio.Reader
}

func newSolver(t *testing.T) *solver {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "cvc5", "--incremental", "--strings-exp", "--tlimit-per=20000", "-q")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("cvc5 is needed: %v", err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() // its exit status says nothing
	})
	s := &solver{in, bufio.NewReader(out)}
	fmt.Fprintln(in, "(set-logic ALL)")
	for i, k := range smtKeys {
		fmt.Fprintf(in, "(declare-const p%d Bool)\n(declare-const v%d %s)\n", i, i, k.sort)
	}
	fmt.Fprintln(in, `(assert (=> p5 (str.in_re v5 (re.++ (str.to_re "alias/") (re.+ re.allchar)))))`)
	fmt.Fprintln(in, `(assert (=> p4 (str.in_re v4 (re.+ re.allchar))))`)
	return s
}

// satisfiable reports whether a formula can be true; ok is false if the solver does not know.
func (s *solver) satisfiable(t *testing.T, formula string) (can, ok bool) {
	t.Helper()
	fmt.Fprintf(s.in, "(push)\n(assert %s)\n(check-sat)\n(pop)\n", formula)
	line, err := s.out.ReadString('\n')
	if err != nil {
		t.Fatalf("%v: %s", err, formula)
	}
	answer := strings.TrimSpace(line)
	return answer == "sat", answer == "sat" || answer == "unsat"
}

// allowedFormula is when a policy allows a request to decrypt, by anybody.
func allowedFormula(doc *policy.Document) string {
	allow, deny := []string{"false"}, []string{"false"}
	for _, s := range doc.Statements {
		all := []string{"true"}
		for _, c := range s.Conditions {
			all = append(all, conditionFormula(c))
		}
		if text := "(and " + strings.Join(all, " ") + ")"; s.Effect == policy.Allow {
			allow = append(allow, text)
		} else {
			deny = append(deny, text)
		}
	}
	return "(and (or " + strings.Join(allow, " ") + ") (not (or " + strings.Join(deny, " ") + ")))"
}

func conditionFormula(c policy.Condition) string {
	n := 0
	for i, k := range smtKeys {
		if strings.EqualFold(k.key, c.Key) {
			n = i
		}
	}
	present, value := fmt.Sprint("p", n), fmt.Sprint("v", n)
	if c.Operator == "Null" {
		// an empty value is as good as none (AUTH-8.4)
		there := fmt.Sprintf("(and %s (not (= %s \"\")))", present, value)
		if c.Values.Items[0].Text == "true" {
			return "(not " + there + ")"
		}
		return there
	}
	operator, ifExists := strings.CutSuffix(c.Operator, "IfExists")
	one := []string{"false"}
	for _, v := range c.Values.Items {
		switch strings.Replace(operator, "Not", "", 1) {
		case "StringEquals":
			one = append(one, fmt.Sprintf("(= %s %q)", value, v.Text))
		case "StringEqualsIgnoreCase":
			one = append(one, fmt.Sprintf("(str.in_re %s %s)", value, anyCaseRegex(v.Text)))
		case "StringLike":
			one = append(one, fmt.Sprintf("(str.in_re %s %s)", value, globRegex(v.Text)))
		}
	}
	any := "(or " + strings.Join(one, " ") + ")"
	switch {
	case strings.Contains(operator, "Not"):
		return fmt.Sprintf("(or (not %s) (not %s))", present, any)
	case ifExists:
		return fmt.Sprintf("(or (not %s) %s)", present, any)
	default:
		return fmt.Sprintf("(and %s %s)", present, any)
	}
}

func globRegex(text string) string {
	parts := []string{`(str.to_re "")`, `(str.to_re "")`}
	for _, r := range text {
		switch r {
		case '*':
			parts = append(parts, "re.all")
		case '?':
			parts = append(parts, "re.allchar")
		default:
			parts = append(parts, fmt.Sprintf("(str.to_re %q)", string(r)))
		}
	}
	return "(re.++ " + strings.Join(parts, " ") + ")"
}

// anyCaseRegex spells out the cases of ASCII, and of the letters that fold to it.
func anyCaseRegex(text string) string {
	parts := []string{`(str.to_re "")`, `(str.to_re "")`}
	for _, r := range strings.ToLower(text) {
		ways := fmt.Sprintf("(str.to_re %q) (str.to_re %q)", string(r), strings.ToUpper(string(r)))
		switch r {
		case 'k':
			ways += ` (str.to_re "\u{212a}")`
		case 's':
			ways += ` (str.to_re "\u{17f}")`
		}
		parts = append(parts, "(re.union "+ways+")")
	}
	return "(re.++ " + strings.Join(parts, " ") + ")"
}

// smtPolicy draws a policy about decrypting, for everybody.
func smtPolicy(d dice) *policy.Policy {
	var statements []string
	for range 1 + d.IntN(4) {
		var conditions []string
		used := map[string]bool{}
		for range d.IntN(3) {
			operator := roll(d, "StringEquals", "StringNotEquals", "StringLike", "StringNotLike", "StringEqualsIfExists", "StringLikeIfExists", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "Null")
			if used[operator] {
				continue
			}
			used[operator] = true
			values := roll(d, `"prod"`, `"dev","prod"`, `"pr*"`, `"*od"`, `"p*d","d?v"`, `"*"`, `"?"`, `"Prod"`, `""`, `"alias/*"`, `"alias/a"`, `"*a*","*b*"`, `"ab*","*ba"`)
			if operator == "Null" {
				values = roll(d, `"true"`, `"false"`)
			}
			conditions = append(conditions, fmt.Sprintf(`%q:{%q:[%s]}`, operator, roll(d, smtKeys...).key, values))
		}
		statements = append(statements, fmt.Sprintf(`{"Effect":%q,"Principal":"*","Action":"kms:Decrypt","Resource":"*","Condition":{%s}}`,
			roll(d, "Allow", "Allow", "Deny"), strings.Join(conditions, ",")))
	}
	return compiled(`{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`)
}

// TestSolver: the analysis and a solver agree about random pairs of policies.
func TestSolver(t *testing.T) {
	s := newSolver(t)
	agreed, unknown := map[Verdict]int{}, 0
	for seed := range uint64(*rounds) {
		d := dice{rand.New(rand.NewPCG(seed, 7))}
		old, new := smtPolicy(d), smtPolicy(d)
		a, err := NewAccess(testKey(here), old, new)
		if err != nil {
			t.Fatal(err)
		}
		more, ok := s.satisfiable(t, "(and "+allowedFormula(new.Document)+" (not "+allowedFormula(old.Document)+"))")
		switch {
		case !ok:
			unknown++
		case a.Verdict == Undecided || more != (a.Verdict == Refuted):
			t.Errorf("seed %d: the solver says %v, the analysis %v %v\n\told %s\n\tnew %s", seed, more, a.Verdict, a.Doubts, old.Document.Compact(), new.Document.Compact())
		default:
			agreed[a.Verdict]++
		}
	}
	t.Logf("%d proven, %d refuted, %d that the solver does not know", agreed[Proven], agreed[Refuted], unknown)
}
