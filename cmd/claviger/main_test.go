package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/claviger/claviger/internal/store/etcd/etcdtest"
)

func TestMain(m *testing.M) {
	etcdtest.RunMember()
	testscript.Main(m, map[string]func(){"claviger": main, "etcdmember": etcdtest.Main})
}

// TestScripts runs the program as people do. The scripts in testdata also use
// the real AWS CLI.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata",
		Setup: setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ready":  ready,
			"save":   save,
			"as":     as,
			"mode":   mode,
			"tamper": tamper,
		},
	})
}

// freeAddress is one that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// setup gives a script addresses of its own and what the AWS CLI wants to know.
func setup(env *testscript.Env) error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	var more [3]string
	for i := range more {
		if more[i], err = freeAddress(); err != nil {
			return err
		}
	}
	repository, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	for name, value := range map[string]string{
		"ADDR": address, "ENDPOINT_ADDR": more[0], "ETCD_ADDR": more[1], "ETCD_PEER": more[2], "REPOSITORY": repository, "GOCACHE": goEnv("GOCACHE"), "GOMODCACHE": goEnv("GOMODCACHE"), "HOME": env.WorkDir, "PYENV_ROOT": os.Getenv("PYENV_ROOT"), "AWS_ENDPOINT_URL": "http://" + address,
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
		"AWS_PAGER": "", "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1", "AWS_CLI_AUTO_PROMPT": "off",
	} {
		env.Setenv(name, value)
	}
	return writeCertificate(env.WorkDir)
}

// goEnv is what the go command knows of a place.
func goEnv(name string) string {
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// writeCertificate makes a certificate for 127.0.0.1 that its own file certifies.
func writeCertificate(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "claviger test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600)
}

// ready [STATUS] waits until the server answers /readyz, with 200 if nothing is said.
func ready(ts *testscript.TestScript, _ bool, args []string) {
	want := append(args, "200")[0]
	for range 200 {
		answer, err := http.Get("http://" + ts.Getenv("ADDR") + "/readyz")
		if err == nil {
			answer.Body.Close()
			if strconv.Itoa(answer.StatusCode) == want {
				return
			}
		}
		time.Sleep(25 * time.Millisecond)
	}
	ts.Fatalf("the server is not ready")
}

// save NAME: keeps the last standard output, without white space around it, in
// an environment variable.
func save(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// as FILE: signs from now on with the access key, secret and perhaps session token
// that the file holds.
func as(ts *testscript.TestScript, _ bool, args []string) {
	words := append(strings.Fields(ts.ReadFile(args[0])), "")
	ts.Setenv("AWS_ACCESS_KEY_ID", words[0])
	ts.Setenv("AWS_SECRET_ACCESS_KEY", words[1])
	ts.Setenv("AWS_SESSION_TOKEN", words[2])
}

// mode FILE MODE: checks a file's permissions.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[1] {
		ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
	}
}

// tamper FILE OLD NEW: replaces the first OLD in a file.
func tamper(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	text, err := os.ReadFile(path)
	ts.Check(err)
	changed := bytes.Replace(text, []byte(args[1]), []byte(args[2]), 1)
	if bytes.Equal(changed, text) {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(path, changed, 0o600))
}
