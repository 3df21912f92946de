package policy

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name, text string
		want       string // the error, or empty
	}{
		{"one statement object", `{"Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}}`, ""},
		{"values that are not strings", `{"Statement":[{"Effect":"Deny","Condition":{"Bool":{"a:b":[true,"x",1.5]}}}]}`, ""},
		{"not JSON", `{"Statement":[`, "line 1, column 15: an object is needed here"},
		{"not an object", `[]`, "line 1, column 1: an object is needed here"},
		{"text after it", `{"Statement":[]} x`, "line 1, column 18: text after the policy"},
		{"a member twice", `{"Id":"a","Id":"b"}`, "line 1, column 11: not valid JSON"},
		{"an unknown element", "{\n \"Statment\": []}", "line 2, column 14: unknown element Statment"},
		{"an unknown element of a statement", `{"Statement":[{"Effect":"Allow","Foo":1}]}`, "line 1, column 39: unknown element Foo"},
		{"element names are case-sensitive", `{"Statement":[{"effect":"Allow"}]}`, "line 1, column 25: unknown element effect"},
		{"no Effect", `{"Statement":[{"Action":"*"}]}`, "line 1, column 15: the statement has no Effect"},
		{"another Effect", `{"Statement":[{"Effect":"allow"}]}`, "line 1, column 25: Effect is neither Allow nor Deny"},
		{"an action that is a number", `{"Statement":[{"Effect":"Allow","Action":7}]}`, "line 1, column 42: a string is needed here"},
		{"Action and NotAction", `{"Statement":[{"Effect":"Allow","Action":"a","NotAction":"b"}]}`, "line 1, column 58: an element stands beside its Not form"},
		{"a principal that is another string", `{"Statement":[{"Effect":"Allow","Principal":"me"}]}`, `line 1, column 45: a Principal that is a string must be "*"`},
		{"another kind of principal", `{"Statement":[{"Effect":"Allow","Principal":{"GCP":"x"}}]}`, "line 1, column 52: unknown kind of principal GCP"},
		{"invalid UTF-8", "{\"Id\":\"\xff\"}", "line 1, column 7: not valid JSON"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			doc, err := Parse([]byte(tt.text))
			if (doc == nil) == (err == nil) {
				t.Fatalf("Parse = %v, %v", doc, err)
			}
			got := ""
			if err != nil {
				got = strings.TrimPrefix(err.Error(), "policy: ")
			}
			if got != tt.want {
				t.Errorf("Parse = %q, want %q", got, tt.want)
			}
		})
	}
	if _, err := Parse([]byte(`{"Statement":[` + strings.Repeat(`{"Effect":"Deny"},`, MaxStatements) + `{"Effect":"Deny"}]}`)); err == nil {
		t.Error("a document of too many statements was accepted")
	}
}

func TestValidate(t *testing.T) {
	statement := func(s string) string { return `{"Version":"2012-10-17","Statement":[{` + s + `}]}` }
	const key = `"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"`
	const identity = `"Effect":"Allow","Action":"kms:*","Resource":"*"`
	tests := []struct {
		name string
		kind Kind
		text string
		want error
	}{
		{"a key policy", Key, statement(key), nil},
		{"a Sid with spaces in a key policy", Key, statement(`"Sid":"a b",` + key), nil},
		{"a misspelled action in a key policy", Key, statement(`"Effect":"Allow","Principal":"*","Action":"kms:Encrpyt","Resource":"*"`), nil},
		{"another version", Key, `{"Version":"2020-01-01","Statement":[{` + key + `}]}`, ErrGrammar},
		{"no statement", Key, `{"Version":"2012-10-17","Statement":[]}`, ErrGrammar},
		{"no principal", Key, statement(identity), ErrPrincipal},
		{"an empty principal", Key, statement(`"Effect":"Allow","Principal":{},"Action":"kms:*","Resource":"*"`), ErrPrincipal},
		{"an empty list of principals", Key, statement(`"Effect":"Allow","Principal":{"AWS":[]},"Action":"kms:*","Resource":"*"`), ErrPrincipal},
		{"no action", Key, statement(`"Effect":"Allow","Principal":"*","Resource":"*"`), ErrGrammar},
		{"no resource", Key, statement(`"Effect":"Allow","Principal":"*","Action":"kms:*"`), ErrGrammar},
		{"an unknown operator", Key, statement(key + `,"Condition":{"StringIs":{"a:b":"c"}}`), ErrGrammar},
		{"Null with IfExists", Key, statement(key + `,"Condition":{"NullIfExists":{"a:b":"true"}}`), ErrGrammar},
		{"an unknown condition key", Key, statement(key + `,"Condition":{"StringEquals":{"a:b":"c"}}`), nil},
		{"aws:ResourceTag", Key, statement(key + `,"Condition":{"StringEquals":{"aws:ResourceTag/a":"c"}}`), ErrForbiddenKey},
		{"kms:ResourceAliases", Key, statement(key + `,"Condition":{"ForAnyValue:StringEquals":{"KMS:resourcealiases":"c"}}`), ErrForbiddenKey},
		{"ForAllValues with an encryption context", Key, statement(key + `,"Condition":{"ForAllValues:StringEquals":{"kms:EncryptionContext:a":"c"}}`), ErrForAllValuesContext},
		{"ForAllValues with a request tag", Key, statement(key + `,"Condition":{"ForAllValues:StringEquals":{"aws:RequestTag/a":"c"}}`), ErrForAllValuesTag},
		{"an identity policy", Identity, statement(identity), nil},
		{"a principal in an identity policy", Identity, statement(key), ErrGrammar},
		{"a Sid with spaces in an identity policy", Identity, statement(`"Sid":"a b",` + identity), ErrGrammar},
		{"a Sid twice", Identity, `{"Statement":[{"Sid":"a",` + identity + `},{"Sid":"a",` + identity + `}]}`, ErrGrammar},
		{"an action without a service", Identity, statement(`"Effect":"Allow","Action":"Encrypt","Resource":"*"`), ErrGrammar},
		{"a resource that is no ARN", Identity, statement(`"Effect":"Allow","Action":"kms:*","Resource":"blue"`), ErrGrammar},
		{"a trust policy", Trust, statement(`"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"`), nil},
		{"a resource in a trust policy", Trust, statement(key), ErrGrammar},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			doc, err := Parse([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if err := Validate(doc, tt.kind); !errors.Is(err, tt.want) {
				t.Errorf("Validate = %v, want %v", err, tt.want)
			}
		})
	}
}

const printed = `{
  "Version" : "2012-10-17",
  "Id" : "i",
  "Statement" : [ {
    "Sid" : "a \"b\"",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "*",
      "Service" : [ "a.amazonaws.com", "b.amazonaws.com" ]
    },
    "Action" : [ "kms:*" ],
    "Resource" : "*",
    "Condition" : {
      "Bool" : {
        "a:b" : true,
        "a:c" : [ "x", 1.5 ]
      },
      "Null" : {
        "a:d" : "false"
      }
    }
  }, {
    "Effect" : "Deny",
    "NotPrincipal" : "*",
    "NotAction" : "kms:*",
    "NotResource" : "*"
  } ]
}`

func TestString(t *testing.T) {
	const written = `{"Statement":[{"Effect":"Allow","Sid":"a \"b\"","Principal":{"AWS":["*"],"Service":["a.amazonaws.com","b.amazonaws.com"]},
		"Resource":"*","Action":["kms:*"],"Condition":{"Bool":{"a:b":true,"a:c":["x",1.5]},"Null":{"a:d":"false"}}},
		{"Effect":"Deny","NotPrincipal":"*","NotAction":"kms:*","NotResource":"*"}],"Version":"2012-10-17","Id":"i"}`
	doc, err := Parse([]byte(written))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(printed, doc.String()); diff != "" {
		t.Error(diff)
	}
	again, err := Parse([]byte(doc.Compact()))
	if err != nil || again.String() != doc.String() {
		t.Errorf("Compact does not say the same: %v %s", err, doc.Compact())
	}
}

func TestKeyNamed(t *testing.T) {
	tests := map[string]ConditionKey{
		"aws:PrincipalArn":               {ID: KeyPrincipalArn},
		"AWS:principalARN":               {ID: KeyPrincipalArn},
		"aws:PrincipalTag/Team":          {KeyPrincipalTag, "Team"},
		"aws:PrincipalTag/a/b:c":         {KeyPrincipalTag, "a/b:c"},
		"kms:EncryptionContext:aws:s3/x": {KeyKMSEncryptionContext, "aws:s3/x"},
		"kms:encryptioncontextkeys":      {ID: KeyKMSEncryptionContextKeys},
		"kms:EncryptionContext:":         {KeyUnknown, "kms:EncryptionContext:"},
		"aws:PrincipalTag":               {KeyUnknown, "aws:PrincipalTag"},
		"aws:PrincipalArn/x":             {KeyUnknown, "aws:PrincipalArn/x"},
		"kms:Nothing":                    {KeyUnknown, "kms:Nothing"},
		"":                               {},
		"kms:RecipientAttestation:PCR0":  {KeyKMSRecipientAttestation, "PCR0"},
	}
	for name, want := range tests {
		if got := KeyNamed(name); got != want {
			t.Errorf("KeyNamed(%q) = %v, want %v", name, got, want)
		}
	}
	if got := KeyNamed("AWS:PRINCIPALTAG/Team").String(); got != "aws:PrincipalTag/Team" {
		t.Errorf("String = %q", got)
	}
}

func TestActionNamed(t *testing.T) {
	a, ok := ActionNamed("KMS:encrypt")
	if !ok || a.String() != "kms:Encrypt" {
		t.Errorf("ActionNamed = %v, %t", a, ok)
	}
	if _, ok := ActionNamed("kms:Nothing"); ok {
		t.Error("an action that does not exist was found")
	}
	if Action(0).String() != "none" {
		t.Error("the zero Action has a name")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(printed)
	f.Add(`{"Statement":{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"arn:aws:kms:*:*:key/${aws:username}"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		doc, err := Parse([]byte(text))
		if (doc == nil) == (err == nil) {
			t.Fatalf("Parse = %v, %v", doc, err)
		}
		if err != nil {
			return
		}
		again, err := Parse([]byte(doc.String()))
		if err != nil || again.String() != doc.String() {
			t.Fatalf("what String prints reads otherwise: %v\n%s", err, doc)
		}
		for _, kind := range []Kind{Identity, Key, Trust} {
			_ = Validate(doc, kind)
			Compile(doc, kind, "fuzz").Match(&Request{Action: MustAction("kms:Encrypt"), Resource: "*", Who: &Principal{Kind: User}, Context: noContext{}}, nil)
		}
	})
}

type noContext struct{}

func (noContext) Lookup(ConditionKey) Value { return Value{} }

// FuzzOperand feeds condition values of every family to both sides.
func FuzzOperand(f *testing.F) {
	for _, s := range []string{"2026-11-01", "1e9", "10.0.0.0/8", "::1", "arn:aws:iam::1:root", "true", "${aws:username, 'x'}", "a*?"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, value, text string) {
		for family := stringEquals; family < null; family++ {
			o := newOperand(family, value, true)
			if matches, valid := o.match(family, text, noContext{}); matches && !valid {
				t.Fatalf("family %d: %q matches %q and is not valid", family, text, value)
			}
		}
	})
}
