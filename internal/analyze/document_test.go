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
	where := func(condition string) string {
		return `{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*","Condition":` + condition + `}`
	}
	for _, test := range []struct {
		old, new string
		want     Verdict
	}{
		{where(`{"StringEquals":{"aws:RequestedRegion":"us-east-1"}}`), where(`{"StringEquals":{"aws:RequestedRegion":["us-east-1","eu-west-1"]}}`), Undecided},
		{where(`{"StringEquals":{"aws:ResourceAccount":"111122223333"}}`), where(`{"StringEquals":{"aws:ResourceAccount":"444455556666"}}`), Undecided},
		{where(`{"StringEquals":{"kms:ViaService":"s3.us-east-1.amazonaws.com"}}`), where(`{"StringEquals":{"kms:ViaService":"s3.eu-west-1.amazonaws.com"}}`), Undecided},
		{where(`{"StringEquals":{"kms:ViaService":"s3.eu-west-1.amazonaws.com"}}`), where(`{"StringLike":{"kms:EncryptionContext:a":"x"},"StringEquals":{"kms:ViaService":"s3.eu-west-1.amazonaws.com"}}`), Proven},
		{where(`{"StringEquals":{"kms:ViaService":"s3.eu-west-1.amazonaws.com"}}`), where(`{"StringEquals":{"kms:ViaService":"ec2.eu-west-1.amazonaws.com"}}`), Refuted},
		{where(`{}`), where(`{"StringEquals":{"aws:RequestedRegion":"eu-west-1"}}`), Proven},
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

// TestPublicByText: a policy is public if it is so for any key that it could be of.
func TestPublicByText(t *testing.T) {
	const root = `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}`
	for statement, want := range map[string]Verdict{
		root: Proven,
		everybody(`{"StringEquals":{"aws:RequestedRegion":"eu-west-1"}}`):                                                                                          Undecided,
		everybody(`{"StringNotEquals":{"aws:RequestedRegion":"us-east-1"}}`):                                                                                       Refuted,
		everybody(`{"StringEquals":{"kms:ViaService":"s3.eu-west-1.amazonaws.com"}}`):                                                                              Refuted,
		everybody(`{"StringEquals":{"kms:ViaService":"s3.eu-west-1.amazonaws.com","kms:CallerAccount":"111122223333"}}`):                                           Proven,
		`{"Effect":"Allow","Principal":"*","Action":"kms:Decrypt","Resource":"arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"}`:       Refuted,
		everybody(`{}`) + `,{"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"arn:aws:kms:us-east-1:111122223333:key/00000000-*"}`:                     Refuted,
		everybody(`{}`) + `,{"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceAccount":"000000000001"}}}`: Refuted,
	} {
		if a, err := PublicByText(of(statement)); err != nil || a.Verdict != want {
			t.Errorf("%s: %v %v, %v", statement, a.Verdict, a.Doubts, err)
		}
	}
}
