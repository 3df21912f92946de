package stage

import (
	"github.com/claviger/claviger/internal/scenario"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/inquire"
	"github.com/claviger/claviger/internal/policy"
)

// TestExplained: what every claim says is what its explanation says, and what is said to
// be needed for it is needed.
func TestExplained(t *testing.T) {
	var explained atomic.Int32
	for _, f := range files(t) {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			var w *World
			for _, c := range f.Claims {
				if !Expressible(f, c.Things) || scenario.Given(f.Things[:c.Things], "endpoint") != nil {
					continue
				}
				if w == nil || len(w.things) != c.Things {
					w = NewWorld(t, f, c.Things)
				}
				asked, ok := w.asked(c)
				if !ok {
					continue
				}
				e, err := w.Server.World().Explain(t.Context(), asked)
				if err != nil {
					t.Errorf("line %d: %v", c.Line, err)
					continue
				}
				if e.Allowed != c.Allowed {
					t.Errorf("line %d: %s may %s: %v, and is explained as %s", c.Line, c.Who, c.Action, c.Allowed, e.Why)
				}
				explained.Add(1)
				w.listed(t, c, asked)
			}
		})
	}
	t.Cleanup(func() {
		if n := explained.Load(); n < 500 {
			t.Errorf("only %d claims were explained", n)
		}
	})
}

// asked is a claim as a case. What claims say of grants and their tokens, cases do not.
func (w *World) asked(c scenario.Claim) (inquire.Case, bool) {
	out := inquire.Case{As: scenario.PrincipalARN(w.things, c.Who), Action: c.Action, Region: scenario.Region, Now: c.At, Key: w.KeyARN[c.Key]}
	// Other services, which grant is retired, and what is authorized in pairs (AUTH-1.9) cases do not tell.
	if strings.Contains(c.Action, ":") || strings.HasSuffix(c.Action, "Alias") || slices.Contains([]string{"RetireGrant", "CreateKey"}, c.Action) {
		return out, false
	}
	if out.Now.IsZero() {
		out.Now = time.Now()
	}
	for _, u := range c.Using {
		id := policy.KeyNamed(u.Name).ID
		if id == policy.KeyUnknown || slices.Contains([]policy.KeyID{policy.KeyKMSEncryptionContextKeys}, id) {
			return out, false
		}
		out.Given = append(out.Given, u.Name+"="+u.Value)
	}
	for _, t := range w.things {
		if t.Name != c.Who {
			continue
		}
		for k, v := range t.Tags {
			if t.Kind == "session" || t.Kind == "federated" {
				out.Given = append(out.Given, "aws:PrincipalTag/"+k+"="+v)
			}
		}
		if t.Kind == "session" && strings.Contains(out.As, ":user/") {
			out.Given = append(out.Given, "aws:TokenIssueTime=2026-11-01T11:00:00Z")
		}
		if t.Kind == "session" || t.Kind == "federated" {
			out.SessionOnly = len(t.With) > 0
			for _, file := range t.With {
				out.Session = append(out.Session, inquire.Text{Name: file, Document: w.texts(file)})
			}
			if t.Kind == "federated" {
				out.Of = scenario.PrincipalARN(w.things, t.Of)
			}
		}
	}
	return out, true
}

// listed: whoever may do something is listed among those who may, and whoever is listed
// without further conditions may.
func (w *World) listed(t *testing.T, c scenario.Claim, asked inquire.Case) {
	t.Helper()
	if asked.Key == "" || asked.Session != nil || asked.Of != "" || strings.Contains(asked.As, ":federated-user/") {
		return
	}
	name := asked.As
	if i := slices.IndexFunc(w.things, func(t scenario.Thing) bool { return t.Kind == "session" && t.Name == c.Who }); i >= 0 {
		name = scenario.PrincipalARN(w.things, w.things[i].Of)
	}
	rows, err := w.Server.World().Who(t.Context(), inquire.WhoQuestion{Key: asked.Key, Action: asked.Action, Given: asked.Given})
	if err != nil {
		t.Errorf("line %d: who: %v", c.Line, err)
		return
	}
	var mine []inquire.Row
	for _, r := range rows {
		service := r.Open && strings.HasSuffix(name, ".amazonaws.com") && strings.Contains(strings.Join(r.Principals, " "), "any other AWS service")
		if service || slices.Contains(r.Principals, name) || slices.Contains(r.Principals, asked.As) {
			mine = append(mine, r)
		}
	}
	certain := slices.ContainsFunc(mine, func(r inquire.Row) bool { return r.Conditions == nil && !r.Open })
	if c.Allowed && mine == nil || !c.Allowed && certain {
		t.Errorf("line %d: %s may %s: %v, and is listed with %+v", c.Line, asked.As, c.Action, c.Allowed, mine)
	}
}
