package analyze

import (
	"testing"

	"github.com/claviger/claviger/internal/policy"
)

func identity(statements string) *policy.Policy {
	doc, err := policy.Parse([]byte(`{"Version":"2012-10-17","Statement":[` + statements + `]}`))
	if err != nil {
		panic(err)
	}
	return policy.Compile(doc, policy.Identity, "identity")
}

// TestByText: what identity policies say, over all resources.
func TestByText(t *testing.T) {
	const all = `{"Effect":"Allow","Action":"kms:*","Resource":"*"}`
	const east = `{"Effect":"Allow","Action":"kms:Decrypt","Resource":"arn:aws:kms:us-east-1:111122223333:key/*"}`
	const one = `{"Effect":"Allow","Action":"kms:Decrypt","Resource":"arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"}`
	const notOne = `{"Effect":"Deny","Action":"kms:*","Resource":"arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"}`
	const create = `{"Effect":"Allow","Action":"kms:CreateKey","Resource":"*"}`
	const createHere = `{"Effect":"Allow","Action":"kms:CreateKey","Resource":"arn:aws:kms:us-east-1:111122223333:key/*"}`
	const mfa = `{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*","Condition":{"Bool":{"aws:MultiFactorAuthPresent":"true"}}}`
	const own = `{"Effect":"Allow","Action":"kms:Decrypt","Resource":"arn:aws:kms:us-east-1:111122223333:key/${aws:username}"}`
	for _, test := range []struct {
		old, new string
		want     Verdict
	}{
		{all, east, Proven}, {east, one, Proven}, {one, east, Refuted}, {east, all, Refuted}, {east + "," + notOne, one, Refuted}, {all, east + "," + notOne, Proven},
		{east, create, Refuted}, {create, create + "," + createHere, Proven}, {all, mfa, Proven}, {mfa, east, Refuted}, {one, own, Undecided},
	} {
		a, err := NewAccessByText(identity(test.old), identity(test.new))
		if err != nil || a.Verdict != test.want {
			t.Errorf("%s after %s: %v %v, %v", test.new, test.old, a.Verdict, a.Doubts, err)
		}
	}
	for _, test := range []struct {
		policy, action string
		resources      []string
		want           Verdict
	}{
		{east, "kms:Decrypt", nil, Refuted}, {east, "kms:Encrypt", nil, Proven},
		{east, "kms:Decrypt", []string{"arn:aws:kms:eu-west-1:*:key/*"}, Proven}, {east, "kms:Decrypt", []string{"arn:aws:kms:us-east-1:111122223333:key/1*"}, Refuted},
		{east + "," + notOne, "kms:Decrypt", []string{"arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"}, Proven},
		{create, "kms:CreateKey", nil, Refuted},
	} {
		a, err := PossibleByText(identity(test.policy), policy.ActionsNamed(test.action), test.resources)
		if err != nil || a.Verdict != test.want {
			t.Errorf("%s on %v by %s: %v %v, %v", test.action, test.resources, test.policy, a.Verdict, a.Doubts, err)
		}
	}
}

// TestOutside: what key policies let in from outside.
func TestOutside(t *testing.T) {
	account, org := Zone{Accounts: []string{here}}, Zone{Accounts: []string{here, there}, Organization: "o-acme"}
	inOrg := everybody(`{"StringEquals":{"aws:PrincipalOrgID":"o-acme"}}`)
	foreign := `{"Effect":"Allow","Principal":{"AWS":"` + there + `"},"Action":"kms:Decrypt","Resource":"*"}`
	for _, test := range []struct {
		statement string
		zone      Zone
		want      int
	}{
		{inOrg, account, 1}, {inOrg, org, 0}, {foreign, account, 1}, {foreign, org, 0}, {everybody(`{}`), org, 1},
		{`{"Effect":"Allow","Principal":{"Service":"logs.amazonaws.com"},"Action":"kms:Decrypt","Resource":"*"}`, account, 0},
	} {
		actions, doubtful, err := Outside(testKey(here), of(test.statement), test.zone, nil)
		if err != nil || len(actions) != test.want || doubtful != nil {
			t.Errorf("%s: %v, %v, %v", test.statement, actions, doubtful, err)
		}
	}
}
