package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/policy"
)

// An endpoint is one --endpoint.
type endpoint struct {
	iam.Endpoint
	listen string
}

// An endpointList is the flag --endpoint.
type endpointList []endpoint

func (l *endpointList) String() string { return "" }

var (
	endpointID  = regexp.MustCompile(`^vpce-([0-9a-f]{8}|[0-9a-f]{17})$`)
	accessKeyID = regexp.MustCompile(`^\w{1,128}$`)
	vpcID       = regexp.MustCompile(`^vpc-([0-9a-f]{8}|[0-9a-f]{17})$`)
)

// maxEndpointPolicy is how long an endpoint policy may be, in bytes.
const maxEndpointPolicy = 20_480

// openEndpoint is the policy of an endpoint without one.
const openEndpoint = `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}`

// Set adds name=vpce-…,listen=HOST:PORT[,policy=FILE][,vpc=vpc-…][,account=ID].
func (l *endpointList) Set(s string) error {
	var e endpoint
	text := []byte(openEndpoint)
	given := map[string]bool{}
	for pair := range strings.SplitSeq(s, ",") {
		name, value, ok := strings.Cut(pair, "=")
		var err error
		switch {
		case !ok || value == "":
			return fmt.Errorf("%q is not NAME=VALUE", pair)
		case given[name]:
			return fmt.Errorf("%s is given twice", name)
		case name == "name" && endpointID.MatchString(value):
			e.ID = value
		case name == "vpc" && vpcID.MatchString(value):
			e.VPC = value
		case name == "account" && arn.IsAccount(value):
			e.Account = value
		case name == "listen":
			e.listen = value
		case name == "policy":
			text, err = os.ReadFile(value)
		default:
			return fmt.Errorf("cannot read %q", pair)
		}
		if err != nil {
			return err
		}
		given[name] = true
	}
	if e.ID == "" || e.listen == "" {
		return errors.New("needs a name, vpce- and 8 or 17 hexadecimal digits, and an address to listen on")
	}
	doc, err := parseEndpointPolicy(text)
	if err != nil {
		return fmt.Errorf("endpoint policy: %w", err)
	}
	e.Policy = policy.Compile(doc, policy.Endpoint, e.ID+" policy")
	*l = append(*l, e)
	return nil
}

func parseEndpointPolicy(text []byte) (*policy.Document, error) {
	if len(text) > maxEndpointPolicy {
		return nil, errors.New("longer than 20480 bytes")
	}
	doc, err := policy.Parse(text)
	if err == nil {
		err = policy.Validate(doc, policy.Endpoint)
	}
	return doc, err
}

// readServices reads --service-credentials: profiles named by service principals.
func readServices(path string) (out []iam.ServiceCredential, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			out = append(out, iam.ServiceCredential{Service: strings.TrimSpace(line[1 : len(line)-1])})
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || len(out) == 0 {
			return nil, fmt.Errorf("%s:%d: neither a profile nor NAME = VALUE", path, n)
		}
		value = strings.TrimSpace(value)
		switch last, name := &out[len(out)-1], strings.TrimSpace(name); {
		case name == "aws_access_key_id" && last.ID == "":
			last.ID = value
		case name == "aws_secret_access_key" && last.Secret == "":
			last.Secret = iam.Secret(value)
		default:
			return nil, fmt.Errorf("%s:%d: unknown setting, or given twice", path, n)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, s := range out {
		if !iam.IsServicePrincipal(s.Service) || !accessKeyID.MatchString(s.ID) || s.Secret == "" {
			return nil, fmt.Errorf("%s: [%s] needs the name of a service principal, an access key id and a secret", path, s.Service)
		}
	}
	return out, nil
}
