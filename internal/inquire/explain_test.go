package inquire_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/inquire"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/store"
)

const (
	account = "111122223333"
	keyID   = "00000000-0000-0000-0000-000000000001"
	keyARN  = "arn:aws:kms:us-east-1:" + account + ":key/" + keyID
)

// world has a key, a user alice and a role app.
func world(t testing.TB, keyPolicy string) *inquire.World {
	t.Helper()
	w, db, err := server.NewWorld(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	err = w.DB.Update(t.Context(), func(tx *store.Tx) error {
		return errors.Join(
			iam.LoadIdentity(tx, &iam.Entity{Class: iam.UserClass, Account: account, Name: "alice", Inline: map[string]string{
				"own": `{"Version":"2012-10-17","Statement":[{"Sid":"Own","Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}]}`}}),
			iam.LoadIdentity(tx, &iam.Entity{Class: iam.UserClass, Account: account, Name: "bob"}),
			iam.LoadIdentity(tx, &iam.Entity{Class: iam.RoleClass, Account: account, Name: "app"}))
	})
	if err == nil {
		err = w.DB.Update(t.Context(), func(tx *store.Tx) error {
			return kms.LoadKey(tx, &kms.Key{ID: keyID, Account: account, Region: "us-east-1", Policy: keyPolicy})
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

const delegating = `{"Sid":"Account","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}`

func keyPolicy(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

func TestChanges(t *testing.T) {
	for _, test := range []struct {
		name, policy, as, action string
		given                    []string
		want                     string // a change that is offered
		unwanted                 string // one that is not
	}{
		{"identity policy", keyPolicy(delegating), "user/bob", "Encrypt", nil, "add a statement to an identity policy of arn:aws:iam::111122223333:user/bob", "take "},
		{"grant", keyPolicy(delegating), "role/app", "Encrypt", nil, "grant Encrypt to arn:aws:iam::111122223333:role/app", ""},
		{"no grant for what none gives", keyPolicy(delegating), "role/app", "PutKeyPolicy", nil, "add a statement to the key policy", "grant "},
		{"context", keyPolicy(`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/bob"},"Action":"kms:Encrypt","Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:app":"web"}}}`),
			"user/bob", "Encrypt", nil, "ask with kms:EncryptionContext:app=web", ""},
		{"another value", keyPolicy(`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/bob"},"Action":"kms:Encrypt","Resource":"*","Condition":{"StringNotLike":{"kms:EncryptionContext:app":"web*"}}}`),
			"user/bob", "Encrypt", []string{"kms:EncryptionContext:app=web1"}, "ask without kms:EncryptionContext:app", ""},
		{"deny", keyPolicy(delegating, `{"Sid":"No","Effect":"Deny","Principal":"*","Action":"kms:Decrypt","Resource":"*"}`), "user/alice", "Decrypt", nil, "statement 2 No away", "add "},
		{"deny by condition", keyPolicy(delegating, `{"Sid":"No","Effect":"Deny","Principal":"*","Action":"kms:Decrypt","Resource":"*","Condition":{"Bool":{"aws:MultiFactorAuthPresent":"false"},"NumericGreaterThan":{"aws:MultiFactorAuthAge":"10"}}}`),
			"user/alice", "Decrypt", []string{"aws:MultiFactorAuthAge=60"}, "", ""},
		{"service", keyPolicy(delegating), "service", "Decrypt", nil, "add a statement to the key policy", "identity policy"},
		{"pairs", keyPolicy(delegating, `{"Sid":"No","Effect":"Deny","Principal":"*","Action":"kms:Encrypt","Resource":"*","Condition":{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}`), "user/bob", "Encrypt", nil,
			"ask with aws:SourceIp=10.0.0.0, and add a statement to an identity policy of arn:aws:iam::111122223333:user/bob", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			as := "arn:aws:iam::" + account + ":" + test.as
			if test.as == "service" {
				as = "logs.amazonaws.com"
			}
			e, err := world(t, test.policy).Explain(t.Context(), inquire.Case{As: as, Action: test.action, Key: keyARN, Given: test.given})
			if err != nil {
				t.Fatal(err)
			}
			var offered []string
			for _, c := range e.Changes {
				offered = append(offered, strings.Join(c.What, ", and "))
			}
			if test.want != "" && !slices.ContainsFunc(offered, func(s string) bool { return strings.Contains(s, test.want) }) {
				t.Errorf("not offered: %s\nin %q", test.want, offered)
			}
			if test.unwanted != "" && slices.ContainsFunc(offered, func(s string) bool { return strings.Contains(s, test.unwanted) }) {
				t.Errorf("offered: %s\nin %q", test.unwanted, offered)
			}
			if e.Allowed != (test.want == "") {
				t.Errorf("allowed: %v: %s", e.Allowed, e.Why)
			}
		})
	}
}

func TestNeeds(t *testing.T) {
	w := world(t, keyPolicy(delegating))
	e, err := w.Explain(t.Context(), inquire.Case{As: "arn:aws:iam::" + account + ":user/alice", Action: "Decrypt", Key: keyARN})
	if err != nil || !e.Allowed || len(e.Needs) != 2 {
		t.Errorf("explain = %+v, %v", e, err)
	}
	if e, err = world(t, keyPolicy(delegating, `{"Effect":"Allow","Principal":"*","Action":"kms:Decrypt","Resource":"*"}`)).Explain(t.Context(),
		inquire.Case{As: "arn:aws:iam::" + account + ":user/alice", Action: "Decrypt", Key: keyARN}); err != nil || !e.Allowed || len(e.Needs) != 0 {
		t.Errorf("allowed twice: explain = %+v, %v", e, err)
	}
}

// TestQuestions: what cannot be asked is said to be.
func TestQuestions(t *testing.T) {
	w := world(t, keyPolicy(delegating))
	good := inquire.Case{As: "arn:aws:iam::" + account + ":user/alice", Action: "Decrypt", Key: keyARN}
	for name, edit := range map[string]func(*inquire.Case){
		"nobody":            func(c *inquire.Case) { c.As = "arn:aws:iam::" + account + ":user/nobody" },
		"no ARN":            func(c *inquire.Case) { c.As = "alice" },
		"another account":   func(c *inquire.Case) { c.As = "arn:aws:iam::444455556666:root" },
		"no action":         func(c *inquire.Case) { c.Action = "Dance" },
		"another service":   func(c *inquire.Case) { c.Action = "iam:GetUser" },
		"no key":            func(c *inquire.Case) { c.Key = "" },
		"a key that is not": func(c *inquire.Case) { c.Key = "00000000-0000-0000-0000-00000000000f" },
		"no pair":           func(c *inquire.Case) { c.Given = []string{"aws:SourceIp"} },
		"no condition key":  func(c *inquire.Case) { c.Given = []string{"aws:Moon=full"} },
		"a derived one":     func(c *inquire.Case) { c.Given = []string{"aws:PrincipalAccount=1"} },
		"no time":           func(c *inquire.Case) { c.Given = []string{"aws:CurrentTime=noon"} },
		"broken policy":     func(c *inquire.Case) { c.KeyPolicy = &inquire.Text{Name: "x", Document: "{"} },
		"a long policy":     func(c *inquire.Case) { c.KeyPolicy = &inquire.Text{Name: "x", Document: strings.Repeat(" ", 40<<10)} },
		"many policies":     func(c *inquire.Case) { c.Session = make([]inquire.Text, 11) },
		"broken session":    func(c *inquire.Case) { c.Session = []inquire.Text{{Name: "x", Document: "{"}} },
	} {
		c := good
		edit(&c)
		if e, err := w.Explain(t.Context(), c); !errors.Is(err, inquire.ErrQuestion) {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
	if e, err := w.Explain(t.Context(), good); err != nil || !e.Allowed {
		t.Errorf("the good one: %+v, %v", e, err)
	}
}
