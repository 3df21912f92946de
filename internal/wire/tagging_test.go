package wire_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/kmstest"
)

// tagging sends a request of the tagging API.
func (c client) tagging(who credentials, operation, body string) (int, string) {
	c.t.Helper()
	r := c.post(operation, body)
	r.Header.Set("X-Amz-Target", "ResourceGroupsTaggingAPI_20170126."+operation)
	status, _, text := c.do(signed(r, body, who, "us-east-1", "tagging", time.Now()))
	return status, text
}

func TestKeysAreFoundByTags(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	alice := c.user("alice")
	var keys []string
	for i := range 4 {
		keys = append(keys, c.must(root, "CreateKey", fmt.Sprintf(`{"Tags":[{"TagKey":"n","TagValue":"%d"},{"TagKey":"team","TagValue":"%c"}]}`, i, "aabb"[i]), "Arn"))
	}
	c.must(root, "CreateKey", `{}`, "Arn") // has no tags
	tests := []struct {
		name, body string
		want       []string
	}{
		{"all", `{}`, keys},
		{"of the type", `{"ResourceTypeFilters":["kms:key"]}`, keys},
		{"of another type", `{"ResourceTypeFilters":["s3"]}`, nil},
		{"with a tag", `{"TagFilters":[{"Key":"team"}]}`, keys},
		{"with a value", `{"TagFilters":[{"Key":"team","Values":["a"]}]}`, keys[:2]},
		{"with one of several values", `{"TagFilters":[{"Key":"n","Values":["0","3"]}]}`, []string{keys[0], keys[3]}},
		{"with two tags", `{"TagFilters":[{"Key":"n","Values":["0","3"]},{"Key":"team","Values":["b"]}]}`, keys[3:]},
		{"with a tag that no key has", `{"TagFilters":[{"Key":"none"}]}`, nil},
		{"named", `{"ResourceARNList":["` + keys[2] + `"]}`, keys[2:3]},
	}
	for _, tt := range tests {
		status, text := c.tagging(root, "GetResources", tt.body)
		if n := strings.Count(text, `"ResourceARN"`); status != 200 || n != len(tt.want) {
			t.Errorf("%s: %d %s", tt.name, status, text)
		}
		for _, k := range tt.want {
			if !strings.Contains(text, k) {
				t.Errorf("%s: %s lacks %s", tt.name, text, k)
			}
		}
	}
	seen, token := 0, ""
	for range 4 {
		_, text := c.tagging(root, "GetResources", `{"ResourcesPerPage":1,"PaginationToken":"`+token+`"}`)
		seen += strings.Count(text, `"ResourceARN"`)
		token = find(text, "PaginationToken")
	}
	if seen != 4 || token != "" {
		t.Errorf("%d keys on four pages, then token %q", seen, token)
	}
	for _, tt := range []struct{ operation, body, want string }{
		{"GetTagKeys", `{}`, `{"PaginationToken":"","TagKeys":["n","team"]}`},
		{"GetTagValues", `{"Key":"team"}`, `{"PaginationToken":"","TagValues":["a","b"]}`},
		{"GetResources", `{"ResourcesPerPage":101}`, `{"__type":"InvalidParameterException","message":"ResourcesPerPage must be between 1 and 100."}`},
		{"GetResources", `{"PaginationToken":"?"}`, `{"__type":"PaginationTokenExpiredException","message":"The pagination token is not valid."}`},
		{"GetResources", `{"TagFilters":[{}]}`, `{"__type":"InvalidParameterException","message":"A tag filter needs a key."}`},
		{"GetResources", `{"ResourceARNList":["` + keys[0] + `"],"TagFilters":[{"Key":"a"}]}`,
			`{"__type":"InvalidParameterException","message":"ResourceARNList cannot be specified with filters or pagination."}`},
	} {
		if _, text := c.tagging(root, tt.operation, tt.body); text != tt.want {
			t.Errorf("%s %s = %s, want %s", tt.operation, tt.body, text, tt.want)
		}
	}
	if _, text := c.tagging(alice, "GetResources", `{}`); !strings.Contains(text, "is not authorized to perform: tag:GetResources on resource: * because no identity-based policy allows") {
		t.Errorf("without permission: %s", text)
	}
}
