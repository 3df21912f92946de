package audit

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"reflect"
	"testing"
	"time"
)

// TestAppendIsMarshal holds the hand-written encoder to the general one.
func TestAppendIsMarshal(t *testing.T) {
	yes := true
	full := Record{
		EventVersion: "1.11", EventTime: time.Date(2026, 11, 1, 2, 3, 4, 0, time.UTC), EventSource: "kms.amazonaws.com", EventName: "Encrypt",
		AWSRegion: "us-east-1", SourceIPAddress: "::1", UserAgent: "a \"quoted\" <agent>\u2028", ErrorCode: "X", ErrorMessage: "é",
		RequestParameters: jsontext.Value(`{"a":1}`), ResponseElements: jsontext.Value(`null`), RequestID: "r", EventID: "e", ReadOnly: true, VPCEndpointID: "vpce-1", ManagementEvent: true,
		Resources: []Resource{{"1", "T", "A"}, {"", "T", "B"}}, EventType: "AwsApiCall", RecipientAccountID: "1", EventCategory: "Management",
		UserIdentity: &Identity{Type: "IAMUser", PrincipalID: "p", ARN: "a", AccountID: "1", AccessKeyID: "k", UserName: "n", InvokedBy: "s"},
		Claviger: Extra{Sequence: 7, Previous: "p", Phase: Outcome, Committed: &yes, Commit: &Commit{Epoch: "e", Revision: 12}, Checkpoint: "c\n",
			Decisions: []Decision{{Action: "a", Resource: "r", Outcome: "o", Layer: "l", By: "b", Via: "v", Missing: "m"}, {Action: "a"}}, Plain: true,
			Around: &Around{Via: []string{"s3.amazonaws.com"}, SourceIP: "::1", UserAgent: "u", Referer: "f", SourceArn: "sa", SourceAccount: "1", VPC: "vpc-1", VPCEAccount: "2",
				MFA: time.Date(2026, 11, 1, 2, 3, 4, 0, time.UTC), Provider: "p", Tags: map[string]string{"b": "1", "a": "2"}, Limited: true, Policies: []string{"{}"}, PolicyARNs: []string{"a"}}},
	}
	everyMember(t, reflect.ValueOf(full))
	session := full
	session.UserIdentity = &Identity{Type: "AssumedRole", SessionContext: &Session{SessionIssuer: &Issuer{Type: "Role"}, Attributes: map[string]any{"b": "1", "a": "2"}}}
	for name, r := range map[string]Record{"zero": {}, "full": full, "session": session} {
		t.Run(name, func(t *testing.T) {
			want, err := json.Marshal(&r, json.Deterministic(true))
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.appendTo(nil)
			if err != nil || string(got) != string(want) {
				t.Errorf("appendTo = %v\n%s\nwant\n%s", err, got, want)
			}
		})
	}
	bad := Record{UserAgent: "\xff"}
	got, err := bad.appendTo(nil)
	if err != nil || !jsontext.Value(got).IsValid() {
		t.Errorf("a user agent that is not UTF-8: %v %q", err, got)
	}
}

// everyMember fails if a member of a record is left at its zero value, so that none
// is forgotten here and in the encoder.
func everyMember(t *testing.T, v reflect.Value) {
	t.Helper()
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		switch {
		case f.IsZero() && name != "SessionContext":
			t.Errorf("%s.%s is not tried", v.Type(), name)
		case f.Kind() == reflect.Struct && v.Type().Field(i).Type != reflect.TypeFor[time.Time]():
			everyMember(t, f)
		case f.Kind() == reflect.Pointer && f.Type().Elem().Kind() == reflect.Struct && !f.IsNil():
			everyMember(t, f.Elem())
		}
	}
}
