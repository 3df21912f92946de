package audit

import (
	"bytes"
	"encoding/json/v2"
	"testing"
	"time"
)

func decoded(line []byte) (r Record, err error) {
	err = json.Unmarshal(line, &r)
	return r, err
}

func TestFilter(t *testing.T) {
	key := "arn:aws:kms:eu-west-1:444455556666:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	r := Record{EventTime: hour(5), EventName: "Decrypt", EventSource: "kms.amazonaws.com", ErrorCode: "AccessDenied", RequestID: "r1",
		RecipientAccountID: "111122223333", UserIdentity: &Identity{ARN: "arn:aws:iam::111122223333:user/alice", AccountID: "111122223333", InvokedBy: "s3.amazonaws.com"},
		Resources: []Resource{{AccountID: "444455556666", Type: "AWS::KMS::Key", ARN: key}}}
	for _, tt := range []struct {
		name   string
		filter Filter
		want   bool
	}{
		{"nothing", Filter{}, true},
		{"since then", Filter{Since: hour(5)}, true},
		{"since later", Filter{Since: hour(5).Add(time.Second)}, false},
		{"until then", Filter{Until: hour(5)}, true},
		{"until earlier", Filter{Until: hour(4)}, false},
		{"the event", Filter{EventName: "Decrypt"}, true},
		{"another event", Filter{EventName: "decrypt"}, false},
		{"the source", Filter{EventSource: "kms.amazonaws.com"}, true},
		{"the service", Filter{EventSource: "kms"}, true},
		{"another source", Filter{EventSource: "iam"}, false},
		{"part of the ARN", Filter{User: "user/al"}, true},
		{"the service that calls", Filter{User: "s3.amazonaws.com"}, true},
		{"another user", Filter{User: "bob"}, false},
		{"the key's ARN", Filter{Key: key}, true},
		{"the key's id", Filter{Key: "1234abcd-12ab-34cd-56ef-1234567890ab"}, true},
		{"the end of the key's id", Filter{Key: "1234567890ab"}, false},
		{"the error", Filter{Error: "AccessDenied"}, true},
		{"another error", Filter{Error: "NotFoundException"}, false},
		{"the request", Filter{RequestID: "r1"}, true},
		{"another request", Filter{RequestID: "r2"}, false},
		{"the caller's account", Filter{Account: "111122223333"}, true},
		{"the key's account", Filter{Account: "444455556666"}, true},
		{"another account", Filter{Account: "777788889999"}, false},
		{"several, one of which is not", Filter{EventName: "Decrypt", User: "alice", Error: "x"}, false},
	} {
		if got := tt.filter.Match(&r); got != tt.want {
			t.Errorf("%s: Match = %t", tt.name, got)
		}
	}
	for _, f := range []Filter{{User: "a"}, {Key: key}, {Account: "111122223333"}} {
		if f.Match(&Record{}) {
			t.Errorf("%+v applies to an empty record", f)
		}
	}
}

// FuzzRecord: whatever is in a log, reading it backwards gives lines without newlines,
// and matching them does not fail.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(at(1, Outcome) + at(2, "")))
	f.Add([]byte("{}\n\n{\"userIdentity\":null,\"resources\":[{}]}\ncut"))
	f.Fuzz(func(t *testing.T, text []byte) {
		filter := Filter{User: "a", Key: "b", Account: "c", EventSource: "d"}
		forwards := 0
		if err := scanLines(bytes.NewReader(text), func(line []byte) error {
			if len(line) > 0 {
				forwards++
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		_, err := backwards(bytes.NewReader(text), int64(len(text)), func(line []byte, _ int64) bool {
			forwards--
			if r, err := decoded(line); err == nil {
				filter.Match(&r)
			}
			return true
		})
		if err != nil || forwards != 0 {
			t.Fatalf("%d lines more forwards than backwards, %v", forwards, err)
		}
	})
}
