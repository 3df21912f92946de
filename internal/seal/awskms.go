package seal

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json/v2"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
)

// An AWSKMSConfig says which key of another key management service wraps the store
// key. Credentials are found as every AWS tool finds them.
type AWSKMSConfig struct {
	Key      string // ARN, or what else KeyId may be
	Region   string // empty: that of the ARN, or as every AWS tool finds it
	Endpoint string // empty: that of AWS
	Profile  string // of the shared credentials file; empty: the default
	CA       string // file of certificates in PEM that verify Endpoint; empty: the system's
}

// An AWSKMS is a seal whose root key is a symmetric KMS key of another key management
// service, AWS's or another Claviger, which it never leaves.
type AWSKMS struct {
	key    string
	client *kms.Client
}

const awsKMSTimeout = 20 * time.Second

// sealContext is the encryption context, which key policies can insist on.
var sealContext = map[string]string{"claviger": "store key"}

// NewAWSKMS makes the seal; it asks nobody yet.
func NewAWSKMS(c AWSKMSConfig) (*AWSKMS, error) {
	options := []func(*config.LoadOptions) error{config.WithRetryMaxAttempts(4)}
	if named, err := arn.Parse(c.Key); err == nil && c.Region == "" {
		c.Region = named.Region
	}
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	if c.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(c.Profile))
	}
	if c.CA != "" {
		text, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("seal: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("seal: %s has no certificate in PEM", c.CA)
		}
		options = append(options, config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		})))
	}
	ctx, cancel := context.WithTimeout(context.Background(), awsKMSTimeout)
	defer cancel()
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if loaded.Region == "" {
		return nil, errors.New("seal: the Region of the key is not known; give it")
	}
	return &AWSKMS{c.Key, kms.NewFromConfig(loaded, func(o *kms.Options) {
		if c.Endpoint != "" {
			o.BaseEndpoint = &c.Endpoint
		}
	})}, nil
}

// Kind names the seal in the store's header.
func (a *AWSKMS) Kind() string { return "awskms" }

// awsWrapped is what is kept of a wrapping.
type awsWrapped struct {
	Key  string // ARN, as the service said
	Blob []byte
}

// Wrap asks the service to encrypt secret.
func (a *AWSKMS) Wrap(secret []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), awsKMSTimeout)
	defer cancel()
	out, err := a.client.Encrypt(ctx, &kms.EncryptInput{KeyId: &a.key, Plaintext: secret, EncryptionContext: sealContext})
	if err != nil {
		return nil, a.explained(err)
	}
	return json.Marshal(awsWrapped{aws.ToString(out.KeyId), out.CiphertextBlob})
}

// Unwrap asks the service to decrypt what Wrap made, with the very key that did.
// ErrWrongKey: it was another service's, or damaged.
func (a *AWSKMS) Unwrap(wrapped []byte) ([]byte, error) {
	var w awsWrapped
	if err := json.Unmarshal(wrapped, &w); err != nil {
		return nil, ErrWrongKey
	}
	ctx, cancel := context.WithTimeout(context.Background(), awsKMSTimeout)
	defer cancel()
	out, err := a.client.Decrypt(ctx, &kms.DecryptInput{KeyId: &w.Key, CiphertextBlob: w.Blob, EncryptionContext: sealContext})
	if err != nil {
		return nil, a.explained(err)
	}
	return out.Plaintext, nil
}

// explained says in one sentence what a failure means.
func (a *AWSKMS) explained(err error) error {
	if _, ok := errors.AsType[*types.InvalidCiphertextException](err); ok {
		return fmt.Errorf("%w: the other key management service did not wrap it", ErrWrongKey)
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return fmt.Errorf("seal: the key management service that holds the root key refuses: %s: %s", e.ErrorCode(), e.ErrorMessage())
	}
	return fmt.Errorf("seal: the key management service that holds the root key is not reached; the store stays closed without it: %w", err)
}
