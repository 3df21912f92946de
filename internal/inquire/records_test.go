package inquire_test

import (
	"encoding/json/jsontext"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/inquire"
)

// FuzzCases: whatever the parameters of a record are, what it tells of can be asked, or not.
func FuzzCases(f *testing.F) {
	f.Add("Decrypt", `{"encryptionContext":{"app":"web"},"encryptionAlgorithm":"SYMMETRIC_DEFAULT"}`, "arn:aws:iam::111122223333:user/alice")
	f.Add("ReEncrypt", `{"sourceEncryptionContext":{"a":"b"},"destinationKeyId":"alias/x","keyId":1}`, "arn:aws:sts::111122223333:assumed-role/app/x")
	f.Add("CreateGrant", `{"operations":["Decrypt",1],"constraints":{"encryptionContextSubset":{"a":"b"}},"validTo":1e300,"tags":[{"tagKey":"a"}]}`, "x")
	f.Fuzz(func(t *testing.T, name, parameters, who string) {
		w := world(t, keyPolicy(delegating))
		r := &audit.Record{EventSource: "kms.amazonaws.com", EventType: "AwsApiCall", EventName: name, EventTime: time.Unix(1.8e9, 0), AWSRegion: "us-east-1",
			RequestParameters: jsontext.Value(parameters), UserIdentity: &audit.Identity{Type: "IAMUser", ARN: who}, Resources: []audit.Resource{{ARN: keyARN}}}
		cases, _ := inquire.Cases(r)
		for _, c := range cases {
			if e, err := w.Explain(t.Context(), c); err == nil && e.Why == "" {
				t.Errorf("%+v is explained by nothing", c)
			}
		}
	})
}
