package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/iam"
)

// FuzzServices: a file of service credentials is refused, or says for each of its
// profiles a service principal, a key id and a secret, and written from that is read
// the same.
func FuzzServices(f *testing.F) {
	f.Add([]byte("[s3.amazonaws.com]\naws_access_key_id = A\naws_secret_access_key = b\n"))
	f.Add([]byte("# a comment\n\n[ ec2.amazonaws.com ]\r\naws_access_key_id=A\naws_secret_access_key==\n; another\n[s3.amazonaws.com]"))
	f.Add([]byte("[s3.amazonaws.com\naws_access_key_id = A\naws_access_key_id = B\naws_secret_access_key = c"))
	f.Add([]byte("[s3.amazonaws.com]\naws_session_token = c\n"))
	path := filepath.Join(f.TempDir(), "services")
	read := func(t *testing.T, text []byte) ([]iam.ServiceCredential, error) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return readServices(path)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		services, err := read(t, text)
		if err != nil {
			if services != nil {
				t.Fatalf("%q is %d services and %v", text, len(services), err)
			}
			return
		}
		var written strings.Builder
		for _, s := range services {
			if !iam.IsServicePrincipal(s.Service) || s.ID == "" || s.Secret == "" {
				t.Fatalf("%q has the service %q with the key %q", text, s.Service, s.ID)
			}
			fmt.Fprintf(&written, "[%s]\naws_access_key_id=%s\naws_secret_access_key=%s\n", s.Service, s.ID, string(s.Secret))
		}
		if n := strings.Count(string(text), "["); len(services) > n || strings.Count(string(text), "]") < len(services) {
			t.Fatalf("%q has %d services", text, len(services))
		}
		if again, err := read(t, []byte(written.String())); err != nil || !reflect.DeepEqual(again, services) {
			t.Fatalf("%q, as %q, reads otherwise: %v", text, written.String(), err)
		}
	})
}

// FuzzEndpoint: a flag --endpoint is refused and adds nothing, or adds one endpoint,
// and written from that is read the same.
func FuzzEndpoint(f *testing.F) {
	f.Add("name=vpce-01234567,listen=127.0.0.1:0,vpc=vpc-0123456789abcdef0,account=111122223333")
	f.Add("name=vpce-01234567,name=vpce-76543210,listen=:1")
	f.Add("listen=a=b,name=vpce-0123456789abcdef0,")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "policy=") {
			return // any file of the machine
		}
		var l, again endpointList
		if err := l.Set(text); (err == nil) != (len(l) == 1) || err != nil {
			if err == nil || len(l) != 0 {
				t.Fatalf("%q adds %d endpoints and is %v", text, len(l), err)
			}
			return
		}
		e := l[0]
		if !endpointID.MatchString(e.ID) || e.VPC != "" && !vpcID.MatchString(e.VPC) || e.Account != "" && !arn.IsAccount(e.Account) || e.Policy == nil {
			t.Fatalf("%q is %+v", text, e)
		}
		written := "name=" + e.ID + ",listen=" + e.listen
		if e.VPC != "" {
			written += ",vpc=" + e.VPC
		}
		if e.Account != "" {
			written += ",account=" + e.Account
		}
		if err := again.Set(written); err != nil || !reflect.DeepEqual(again[0], e) {
			t.Fatalf("%q, as %q, reads otherwise: %v", text, written, err)
		}
		if strings.Count(text, ",") != strings.Count(written, ",") {
			t.Fatalf("%q says something twice, and is read as %q", text, written)
		}
	})
}

// FuzzEndpointPolicy: an endpoint policy is a document or an error, and short.
func FuzzEndpointPolicy(f *testing.F) {
	f.Add([]byte(openEndpoint))
	f.Add([]byte(`{"Statement":[{"Effect":"Deny","Principal":{"AWS":"arn:aws:iam::111122223333:user/alice"},"Action":"kms:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		doc, err := parseEndpointPolicy(text)
		if err == nil && (doc == nil || len(text) > maxEndpointPolicy) {
			t.Fatalf("%q is %v", text, doc)
		}
	})
}
