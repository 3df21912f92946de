package main

import (
	"flag"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/claviger/claviger/internal/seal"
)

// sealFlags are the flags that say which seals there are, and what they need.
type sealFlags struct {
	prefix         string // of their names
	kinds          string
	keyFile        string
	passphraseFile string
	module         string
	token          string
	key            string
	pinFile        string
	device         string
	pcrs           string
	awsKey         string
	awsRegion      string
	awsEndpoint    string
	awsProfile     string
	awsCA          string
	shares         int
	threshold      int
}

// register adds the flags, with a prefix where there are others of the same kind.
func (o *sealFlags) register(f *flag.FlagSet, prefix string) {
	o.prefix = prefix
	name := func(s string) string { return prefix + "seal" + s }
	f.StringVar(&o.kinds, name(""), "file", "what holds the root key: "+strings.Join(seal.Kinds, ", ")+"; several, with commas between, are tried in turn")
	f.StringVar(&o.keyFile, name("-key-file"), "", "file: where the root key is (default DIR/root.key)")
	f.StringVar(&o.passphraseFile, name("-passphrase-file"), "", "passphrase: the file with it, at least 12 bytes")
	f.StringVar(&o.module, name("-pkcs11-module"), "", "pkcs11: the library of the HSM")
	f.StringVar(&o.token, name("-pkcs11-token"), "", "pkcs11: the label of the token")
	f.StringVar(&o.key, name("-pkcs11-key"), "claviger", "pkcs11: the label of the AES key, which is made if it is not there")
	f.StringVar(&o.pinFile, name("-pkcs11-pin-file"), "", "pkcs11: the file with the user's PIN")
	f.StringVar(&o.device, name("-tpm2-device"), "", "tpm2: the device, or unix:SOCKET (default /dev/tpmrm0)")
	f.StringVar(&o.pcrs, name("-tpm2-pcrs"), "7", "tpm2: numbers of the PCRs whose values the root key is bound to, with commas between")
	f.StringVar(&o.awsKey, name("-awskms-key"), "", "awskms: the ARN of the key")
	f.StringVar(&o.awsRegion, name("-awskms-region"), "", "awskms: the Region (default that of the ARN, or of the environment)")
	f.StringVar(&o.awsEndpoint, name("-awskms-endpoint"), "", "awskms: URL of a service other than AWS's")
	f.StringVar(&o.awsProfile, name("-awskms-profile"), "", "awskms: profile of the credentials (default as the environment says)")
	f.StringVar(&o.awsCA, name("-awskms-ca"), "", "awskms: certificates that verify the service, PEM (default the system's)")
}

// registerShares adds the flags of a new seal alone.
func (o *sealFlags) registerShares(f *flag.FlagSet, prefix string) {
	f.IntVar(&o.shares, prefix+"seal-shares", 5, "shamir: how many shares the root key is split into")
	f.IntVar(&o.threshold, prefix+"seal-threshold", 3, "shamir: how many of them open the store")
}

// options are the seals, in the order given.
func (o *sealFlags) options() (out []seal.Options, err error) {
	for kind := range strings.SplitSeq(o.kinds, ",") {
		s := seal.Options{Kind: kind, Shares: o.shares, Threshold: o.threshold}
		switch kind {
		case "file":
			s.KeyFile, err = absolute(o.keyFile)
		case "passphrase":
			s.PassphraseFile, err = o.needed(o.passphraseFile, "passphrase-file")
		case "pkcs11":
			s.Module, s.Token, s.Key = o.module, o.token, o.key
			s.PINFile, err = o.needed(o.pinFile, "pkcs11-pin-file")
		case "tpm2":
			s.TPM2.Device = o.device
			s.TPM2.PCRs, err = numbers(o.pcrs)
		case "awskms":
			s.AWSKMS = seal.AWSKMSConfig{Key: o.awsKey, Region: o.awsRegion, Endpoint: o.awsEndpoint, Profile: o.awsProfile, CA: o.awsCA}
			if o.awsKey == "" {
				_, err = o.needed("", "awskms-key")
			}
		case "shamir":
		default:
			err = fmt.Errorf("there is no seal %q; there are %s", kind, strings.Join(seal.Kinds, ", "))
		}
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// one is the seal, of which there may be only one.
func (o *sealFlags) one() (seal.Options, error) {
	options, err := o.options()
	if err == nil && len(options) > 1 {
		err = fmt.Errorf("--%sseal %s: name one seal here", o.prefix, o.kinds)
	}
	if err != nil {
		return seal.Options{}, err
	}
	return options[0], nil
}

// absolute is a path that means the same in another process.
func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}

// needed is a path that must be given.
func (o *sealFlags) needed(path, name string) (string, error) {
	if path == "" {
		return "", fmt.Errorf("the seal needs --%sseal-%s", o.prefix, name)
	}
	return absolute(path)
}

func numbers(text string) (out []int, err error) {
	for s := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("%q is not a list of numbers", text)
		}
		out = append(out, n)
	}
	return out, nil
}
