package main

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/sigv4"
)

// A signer is somebody with credentials.
type signer struct{ id, secret, token string }

// A kind is one way to take a permission away.
type kind struct {
	name string
	// give makes somebody who can encrypt with a key, and says what takes that away.
	give func(g *giver) taking
}

// A taking is what somebody can do, and the request that takes it from them.
type taking struct {
	who     signer
	key     string // as they name it
	by      signer
	service string
	action  string
	in      string // JSON, or a query
}

// A giver asks a node, as its root user.
type giver struct {
	c    *testCluster
	ctx  context.Context
	node int
	root signer
	n    int // tells apart what is made
}

var versions = map[string]string{"iam": "2010-05-08", "sts": "2011-06-15"}

var targets = map[string]string{"kms": "TrentService.", "organizations": "AWSOrganizationsV20161128."}

// ask sends a request to a node.
func (g *giver) ask(node int, by signer, service, action, in string) (string, error) {
	kind := "application/x-amz-json-1.1"
	if versions[service] != "" {
		kind, in = "application/x-www-form-urlencoded", "Action="+action+"&Version="+versions[service]+"&"+in
	}
	r, err := http.NewRequestWithContext(g.ctx, http.MethodPost, g.c.url(node), bytes.NewReader([]byte(in)))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", kind)
	if targets[service] != "" {
		r.Header.Set("X-Amz-Target", targets[service]+action)
	}
	sigv4.Sign(r, []byte(in), by.id, by.secret, by.token, "us-east-1", service, time.Now())
	answer, err := g.c.nodes[node].http.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", action, answer.Status, text)
	}
	return string(text), err
}

// do asks the giver's node for what must succeed, and returns the first group of what.
func (g *giver) do(by signer, what, service, action, in string) string {
	g.c.t.Helper()
	text, err := g.ask(g.node, by, service, action, in)
	if err != nil {
		g.c.t.Fatal(err)
	}
	m := regexp.MustCompile(what).FindStringSubmatch(text)
	if m == nil {
		g.c.t.Fatalf("%s answers %s", action, text)
	}
	return m[len(m)-1]
}

func (g *giver) name(what string) string { return fmt.Sprintf("%s-%d", what, g.n) }

// keyPolicy is one by which a principal may do everything, and the account what it likes.
func keyPolicy(account string, more string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + account + `:root"},"Action":"kms:*","Resource":"*"}` + more + `]}`
}

const mayEncrypt = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}}`
const mayNot = `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"kms:Encrypt","Resource":"*"}}`
const first = "111122223333"

// key makes a key.
func (g *giver) key(by signer, in string) string {
	return g.do(by, `"KeyId":"([^"]*)"`, "kms", "CreateKey", in)
}

// user makes a user with an access key.
func (g *giver) user(by signer) (name string, s signer) {
	name = g.name("user")
	g.do(by, "", "iam", "CreateUser", "UserName="+name)
	text, err := g.ask(g.node, by, "iam", "CreateAccessKey", "UserName="+name)
	if err != nil {
		g.c.t.Fatal(err)
	}
	m := regexp.MustCompile(`(?s)<AccessKeyId>(.*?)<.*<SecretAccessKey>(.*?)<`).FindStringSubmatch(text)
	return name, signer{id: m[1], secret: m[2]}
}

// permitted makes a user whom an inline policy permits to encrypt.
func (g *giver) permitted() (name string, s signer) {
	name, s = g.user(g.root)
	g.do(g.root, "", "iam", "PutUserPolicy", "UserName="+name+"&PolicyName=p&PolicyDocument="+url.QueryEscape(mayEncrypt))
	return name, s
}

func quote(s string) string { return strings.ReplaceAll(s, `"`, `\"`) }

// assume returns the credentials of a session.
func (g *giver) assume(by signer, role string) signer {
	text, err := g.ask(g.node, by, "sts", "AssumeRole", "RoleSessionName=session&RoleArn="+url.QueryEscape(role))
	if err != nil {
		g.c.t.Fatal(err)
	}
	m := regexp.MustCompile(`(?s)<AccessKeyId>(.*?)<.*<SecretAccessKey>(.*?)<.*<SessionToken>(.*?)<`).FindStringSubmatch(text)
	if m == nil {
		g.c.t.Fatal(text)
	}
	return signer{m[1], m[2], m[3]}
}

// grantee makes a user with a grant.
func (g *giver) grantee() (s signer, key, grant string) {
	name, s := g.user(g.root)
	key = g.key(g.root, `{}`)
	grant = g.do(g.root, `"GrantId":"([^"]*)"`, "kms", "CreateGrant", `{"KeyId":"`+key+`","GranteePrincipal":"arn:aws:iam::`+first+`:user/`+name+`","Operations":["Encrypt"]}`)
	return s, key, grant
}

// ofKey is a kind whose change of the key, or of what leads to it, needs no more than that.
func ofKey(name, action, in string) kind {
	return kind{name, func(g *giver) taking {
		_, s := g.permitted()
		key := g.key(g.root, `{}`)
		return taking{s, key, g.root, "kms", action, strings.ReplaceAll(in, "KEY", key)}
	}}
}

// ofUser is a kind whose change is of the user alone.
func ofUser(action, in string) kind {
	return kind{action, func(g *giver) taking {
		name, s := g.permitted()
		return taking{s, g.key(g.root, `{}`), g.root, "iam", action, strings.NewReplacer("USER", name, "ID", s.id).Replace(in)}
	}}
}

// kinds take a permission away in every way there is.
var kinds = []kind{
	{"PutKeyPolicy", func(g *giver) taking {
		name, s := g.user(g.root)
		allow := keyPolicy(first, `,{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::`+first+`:user/`+name+`"},"Action":"kms:Encrypt","Resource":"*"}`)
		key := g.key(g.root, `{"Policy":"`+quote(allow)+`"}`)
		return taking{s, key, g.root, "kms", "PutKeyPolicy", `{"KeyId":"` + key + `","Policy":"` + quote(keyPolicy(first, "")) + `"}`}
	}},
	{"RevokeGrant", func(g *giver) taking {
		s, key, grant := g.grantee()
		return taking{s, key, g.root, "kms", "RevokeGrant", `{"KeyId":"` + key + `","GrantId":"` + grant + `"}`}
	}},
	{"RetireGrant", func(g *giver) taking {
		s, key, grant := g.grantee()
		return taking{s, key, g.root, "kms", "RetireGrant", `{"KeyId":"arn:aws:kms:us-east-1:` + first + `:key/` + key + `","GrantId":"` + grant + `"}`}
	}},
	ofKey("DisableKey", "DisableKey", `{"KeyId":"KEY"}`),
	ofKey("ScheduleKeyDeletion", "ScheduleKeyDeletion", `{"KeyId":"KEY"}`),
	{"DeleteAlias", func(g *giver) taking {
		_, s := g.permitted()
		alias := g.name("alias/a")
		g.do(g.root, "", "kms", "CreateAlias", `{"AliasName":"`+alias+`","TargetKeyId":"`+g.key(g.root, `{}`)+`"}`)
		return taking{s, alias, g.root, "kms", "DeleteAlias", `{"AliasName":"` + alias + `"}`}
	}},
	{"UpdateAlias to a key that forbids it", func(g *giver) taking {
		_, s := g.permitted()
		alias := g.name("alias/a")
		g.do(g.root, "", "kms", "CreateAlias", `{"AliasName":"`+alias+`","TargetKeyId":"`+g.key(g.root, `{}`)+`"}`)
		other := g.key(g.root, `{}`)
		g.do(g.root, "", "kms", "DisableKey", `{"KeyId":"`+other+`"}`)
		return taking{s, alias, g.root, "kms", "UpdateAlias", `{"AliasName":"` + alias + `","TargetKeyId":"` + other + `"}`}
	}},
	{"UntagResource", func(g *giver) taking {
		name, s := g.user(g.root)
		key := g.key(g.root, `{"Tags":[{"TagKey":"open","TagValue":"yes"}]}`)
		g.do(g.root, "", "iam", "PutUserPolicy", "UserName="+name+"&PolicyName=p&PolicyDocument="+
			url.QueryEscape(strings.Replace(mayEncrypt, `"Resource":"*"`, `"Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/open":"yes"}}`, 1)))
		return taking{s, key, g.root, "kms", "UntagResource", `{"KeyId":"` + key + `","TagKeys":["open"]}`}
	}},
	ofUser("DeleteUserPolicy", "UserName=USER&PolicyName=p"),
	ofUser("UpdateAccessKey", "UserName=USER&AccessKeyId=ID&Status=Inactive"),
	ofUser("DeleteAccessKey", "UserName=USER&AccessKeyId=ID"),
	ofUser("PutUserPolicy", "UserName=USER&PolicyName=no&PolicyDocument="+url.QueryEscape(mayNot)),
	ofUser("PutUserPermissionsBoundary", "UserName=USER&PermissionsBoundary="+url.QueryEscape("arn:aws:iam::aws:policy/ReadOnlyAccess")),
	{"TagUser", func(g *giver) taking {
		name, s := g.permitted()
		g.do(g.root, "", "iam", "PutUserPolicy", "UserName="+name+"&PolicyName=no&PolicyDocument="+
			url.QueryEscape(strings.Replace(mayNot, `"Resource":"*"`, `"Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/left":"yes"}}`, 1)))
		return taking{s, g.key(g.root, `{}`), g.root, "iam", "TagUser", "UserName=" + name + "&Tags.member.1.Key=left&Tags.member.1.Value=yes"}
	}},
	{"DetachUserPolicy", func(g *giver) taking {
		name, s := g.user(g.root)
		arn := g.managed()
		g.do(g.root, "", "iam", "AttachUserPolicy", "UserName="+name+"&PolicyArn="+url.QueryEscape(arn))
		return taking{s, g.key(g.root, `{}`), g.root, "iam", "DetachUserPolicy", "UserName=" + name + "&PolicyArn=" + url.QueryEscape(arn)}
	}},
	{"CreatePolicyVersion", func(g *giver) taking {
		name, s := g.user(g.root)
		arn := g.managed()
		g.do(g.root, "", "iam", "AttachUserPolicy", "UserName="+name+"&PolicyArn="+url.QueryEscape(arn))
		return taking{s, g.key(g.root, `{}`), g.root, "iam", "CreatePolicyVersion", "SetAsDefault=true&PolicyArn=" + url.QueryEscape(arn) + "&PolicyDocument=" + url.QueryEscape(mayNot)}
	}},
	{"RemoveUserFromGroup", func(g *giver) taking {
		name, s := g.user(g.root)
		group := g.name("group")
		g.do(g.root, "", "iam", "CreateGroup", "GroupName="+group)
		g.do(g.root, "", "iam", "PutGroupPolicy", "GroupName="+group+"&PolicyName=p&PolicyDocument="+url.QueryEscape(mayEncrypt))
		g.do(g.root, "", "iam", "AddUserToGroup", "GroupName="+group+"&UserName="+name)
		return taking{s, g.key(g.root, `{}`), g.root, "iam", "RemoveUserFromGroup", "GroupName=" + group + "&UserName=" + name}
	}},
	{"DeleteRolePolicy", func(g *giver) taking {
		role, s := g.session()
		return taking{s, g.key(g.root, `{}`), g.root, "iam", "DeleteRolePolicy", "RoleName=" + role + "&PolicyName=p"}
	}},
	{"DeleteRole", func(g *giver) taking {
		role := g.role()
		s := g.assume(g.assumer(role), "arn:aws:iam::"+first+":role/"+role)
		key := g.key(g.root, `{"Policy":"`+quote(keyPolicy(first, `,{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::`+first+`:role/`+role+`"},"Action":"kms:Encrypt","Resource":"*"}`))+`"}`)
		return taking{s, key, g.root, "iam", "DeleteRole", "RoleName=" + role}
	}},
	{"AttachPolicy of an SCP", func(g *giver) taking { return g.inMember("SERVICE_CONTROL_POLICY", mayNot) }},
	{"AttachPolicy of an RCP", func(g *giver) taking {
		return g.inMember("RESOURCE_CONTROL_POLICY", strings.Replace(mayNot, `"Effect":"Deny",`, `"Effect":"Deny","Principal":"*",`, 1))
	}},
}

// managed makes a managed policy that permits to encrypt.
func (g *giver) managed() string {
	return g.do(g.root, `<Arn>(.*?)<`, "iam", "CreatePolicy", "PolicyName="+g.name("policy")+"&PolicyDocument="+url.QueryEscape(mayEncrypt))
}

// role makes a role that the account may assume.
func (g *giver) role() string {
	role := g.name("role")
	g.do(g.root, "", "iam", "CreateRole", "RoleName="+role+"&AssumeRolePolicyDocument="+
		url.QueryEscape(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::`+first+`:root"},"Action":"sts:AssumeRole"}}`))
	return role
}

// assumer makes a user who may assume roles.
func (g *giver) assumer(role string) signer {
	name, s := g.user(g.root)
	g.do(g.root, "", "iam", "PutUserPolicy", "UserName="+name+"&PolicyName=p&PolicyDocument="+
		url.QueryEscape(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"arn:aws:iam::`+first+`:role/`+role+`"}}`))
	return s
}

// session makes a session of a role that an inline policy permits to encrypt.
func (g *giver) session() (role string, s signer) {
	role = g.role()
	g.do(g.root, "", "iam", "PutRolePolicy", "RoleName="+role+"&PolicyName=p&PolicyDocument="+url.QueryEscape(mayEncrypt))
	return role, g.assume(g.assumer(role), "arn:aws:iam::"+first+":role/"+role)
}

// inMember makes a user of another account of the organization, from whom a policy of that
// takes it away.
func (g *giver) inMember(policyType, policy string) taking {
	_, _ = g.ask(g.node, g.root, "organizations", "CreateOrganization", `{}`) // there may be one
	top := g.do(g.root, `"Id":"(r-[^"]*)"`, "organizations", "ListRoots", `{}`)
	g.do(g.root, "", "organizations", "EnablePolicyType", `{"RootId":"`+top+`","PolicyType":"`+policyType+`"}`)
	status := g.do(g.root, `"Id":"(car-[^"]*)"`, "organizations", "CreateAccount", `{"Email":"`+g.name("a")+`@example.com","AccountName":"`+g.name("a")+`"}`)
	account := g.do(g.root, `"AccountId":"(\d*)"`, "organizations", "DescribeCreateAccountStatus", `{"CreateAccountRequestId":"`+status+`"}`)
	name, assumer := g.user(g.root)
	g.do(g.root, "", "iam", "PutUserPolicy", "UserName="+name+"&PolicyName=p&PolicyDocument="+
		url.QueryEscape(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}}`))
	admin := g.assume(assumer, "arn:aws:iam::"+account+":role/OrganizationAccountAccessRole")
	key := g.key(admin, `{}`)
	made := g.do(g.root, `"Id":"(p-[^"]*)"`, "organizations", "CreatePolicy", `{"Name":"`+g.name("policy")+`","Description":"","Type":"`+policyType+`","Content":"`+quote(policy)+`"}`)
	return taking{admin, key, g.root, "organizations", "AttachPolicy", `{"PolicyId":"` + made + `","TargetId":"` + account + `"}`}
}

// leads reports whether the member of a host leads the others.
func (c *testCluster) leads(i int) bool {
	c.t.Helper()
	out, err := exec.Command(c.binary, "cluster", "status", "--data", c.dirs[i], "--output", "json").Output()
	if err != nil {
		c.t.Fatal(err, string(out))
	}
	var state server.ClusterState
	if err := json.Unmarshal(out, &state); err != nil {
		c.t.Fatal(err)
	}
	return state.Etcd.Members[0].Leads
}

// TestClusterKinds: whatever it is by which something is taken away on one node, once that has
// been answered no node that is cut off from the others allows it, although its lease may last.
func TestClusterKinds(t *testing.T) {
	binary := build(t)
	// Without a lease until everything is given. Who asks one member alone does not wait for those
	// that are cut off: a change without a fence would be answered while leases last.
	c := (&testCluster{t: t, binary: binary, args: []string{"--lease", "0"}, own: true}).start()
	root := signer{id: c.nodes[0].id, secret: c.nodes[0].secret}
	var taken []taking
	for i, k := range kinds {
		g := &giver{c, t.Context(), 0, root, i}
		taken = append(taken, k.give(g))
	}
	if out, err := exec.Command(binary, "cluster", "lease", "--data", c.dirs[0], "--to", "1s").CombinedOutput(); err != nil {
		t.Fatal(string(out))
	}
	g := &giver{c, t.Context(), 0, root, 0}
	use := func(node int, one taking) error {
		_, err := g.ask(node, one.who, "kms", "Encrypt", `{"KeyId":"`+one.key+`","Plaintext":"eA=="}`)
		return err
	}
	for node := range hosts {
		for i, one := range taken {
			if err := use(node, one); err != nil {
				t.Fatalf("%s: node %d refuses what was given: %v", kinds[i].name, node+1, err)
			}
		}
	}
	far := 2
	if c.leads(far) { // nothing would be changed before the others have elected another one
		far = 1
	}
	c.Cut(far)
	var all sync.WaitGroup
	for i, one := range taken {
		all.Go(func() {
			if _, err := g.ask(0, one.by, one.service, one.action, one.in); err != nil {
				t.Errorf("%s: %v", kinds[i].name, err)
				return
			}
			if err := use(far, one); err == nil {
				t.Errorf("%s: the node that is cut off allows what was taken away", kinds[i].name)
			}
			if err := use(0, one); err == nil {
				t.Errorf("%s: the node that took it away allows it", kinds[i].name)
			}
		})
	}
	all.Wait()
	c.Mend(far)
	for i, one := range taken {
		eventually(t, func() bool {
			err := use(far, one)
			if err == nil {
				t.Errorf("%s: the node that was cut off allows what was taken away", kinds[i].name)
			}
			return err == nil || !strings.Contains(err.Error(), "500")
		})
	}
}
