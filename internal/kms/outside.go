package kms

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/material"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/xks"
)

// An outside is an external key store with what its requests are signed with.
type outside struct {
	store      *KeyStore
	credential *proxyCredential
}

// outside reads the key store's credential.
func (s *KeyStore) outside(tx *store.Tx) (outside, error) {
	c, err := store.Get(tx, proxyCredentialKind, s.credentialKey())
	return outside{s, c}, err
}

func credentialOf(in *kmsapi.XksProxyAuthenticationCredentialType) *proxyCredential {
	c := &proxyCredential{}
	if in != nil && in.AccessKeyId != nil && in.RawSecretAccessKey != nil {
		c.AccessKeyID, c.Secret = *in.AccessKeyId, []byte(*in.RawSecretAccessKey)
	}
	_ = c.prepare()
	return c
}

// stored is the form that is put into the store.
func (c *proxyCredential) stored() *proxyCredential {
	out := &proxyCredential{AccessKeyID: c.AccessKeyID}
	_ = c.secret.Use(func(b []byte) error { // there is one: prepare was called
		out.Secret = slices.Clone(b)
		return nil
	})
	return out
}

// proxy is how to reach the key store.
func (o outside) proxy() xks.Proxy {
	p := xks.Proxy{Endpoint: o.store.Endpoint, Path: o.store.Path, Region: o.store.Region, AccessKeyID: o.credential.AccessKeyID}
	_ = o.credential.secret.Use(func(b []byte) error {
		p.Secret = string(b)
		return nil
	})
	return p
}

// metadata tells the proxy on whose behalf it is asked.
func metadataFor(call *iam.Call, operation, keyARN string) xks.Metadata {
	m := xks.Metadata{PrincipalARN: call.CallerARN(), KeyARN: keyARN, Operation: operation, RequestID: call.RequestID}
	if call.Through != nil {
		m.SourceVPC, m.SourceVPCE = call.Through.VPC, call.Through.ID
	}
	if n := len(call.Via); n > 0 {
		m.ViaService = call.Via[n-1]
	}
	return m
}

// probe asks the proxy whether it serves.
func (s *Service) probe(ctx context.Context, call *iam.Call, o outside, operation string) error {
	return s.told(call, o, s.config.Proxies.Health(ctx, o.proxy(), metadataFor(call, operation, "")))
}

// told logs why a proxy failed: operators are to know, and callers are not.
func (s *Service) told(call *iam.Call, o outside, err error) error {
	if err != nil && !errors.Is(err, xks.ErrCiphertext) && !errors.Is(err, xks.ErrKeyNotFound) {
		s.config.Logger.Warn("external key store", "requestId", call.RequestID, "keyStore", o.store.ID, "err", err)
	}
	return err
}

// proxyFault is what the operations on key stores say when a proxy does not serve.
func proxyFault(err error) error {
	var f error
	switch {
	case errors.Is(err, xks.ErrCredential):
		f = kmsapi.XksProxyIncorrectAuthenticationCredentialException("").Because(err)
	case errors.Is(err, xks.ErrConfiguration):
		f = kmsapi.XksProxyInvalidConfigurationException("").Because(err)
	case errors.Is(err, xks.ErrInvalidResponse), errors.Is(err, xks.ErrRefused):
		f = kmsapi.XksProxyInvalidResponseException("").Because(err)
	default:
		f = kmsapi.XksProxyUriUnreachableException("").Because(err)
	}
	return f
}

// connectionError is the ConnectionErrorCode of a key store that could not be
// connected.
func connectionError(err error) string {
	switch {
	case errors.Is(err, xks.ErrCredential):
		return kmsapi.ConnectionErrorCodeTypeXksProxyAccessDenied
	case errors.Is(err, xks.ErrConfiguration):
		return kmsapi.ConnectionErrorCodeTypeXksProxyInvalidConfiguration
	case errors.Is(err, xks.ErrInvalidResponse), errors.Is(err, xks.ErrRefused):
		return kmsapi.ConnectionErrorCodeTypeXksProxyInvalidResponse
	case errors.Is(err, xks.ErrTimeout):
		return kmsapi.ConnectionErrorCodeTypeXksProxyTimedOut
	case errors.Is(err, xks.ErrTLS):
		return kmsapi.ConnectionErrorCodeTypeXksProxyInvalidTlsConfiguration
	default:
		return kmsapi.ConnectionErrorCodeTypeXksProxyNotReachable
	}
}

// outsideFault is what cryptographic operations say when an external key store
// fails (UNVERIFIED text).
func outsideFault(err error) error {
	return kmsapi.KMSInvalidStateException("The external key store did not perform the operation.").Because(err)
}

// checkOutside asks an external key store for the key that a new KMS key is to
// use.
func (s *Service) checkOutside(ctx context.Context, call *iam.Call, k *KeyStore, in *kmsapi.CreateKeyRequest) error {
	if *in.Origin != kmsapi.OriginTypeExternalKeyStore {
		return validation("Origin " + *in.Origin + " is not compatible with the type of the custom key store.") // UNVERIFIED text
	}
	if k.State != kmsapi.ConnectionStateTypeConnected {
		return k.wrongState()
	}
	var o outside
	err := s.db.View(ctx, func(tx *store.Tx) (err error) {
		o, err = k.outside(tx)
		return err
	})
	if err != nil {
		return err
	}
	m, err := s.config.Proxies.KeyMetadata(ctx, o.proxy(), *in.XksKeyId, metadataFor(call, "CreateKey", ""))
	switch {
	case errors.Is(err, xks.ErrKeyNotFound):
		return kmsapi.XksKeyNotFoundException("").Because(err)
	case s.told(call, o, err) != nil:
		return kmsapi.CustomKeyStoreInvalidStateException("The external key store did not describe the key.").Because(err) // UNVERIFIED text
	case m.Spec != "AES_256" || m.Status != "ENABLED" || !slices.Contains(m.Usage, "ENCRYPT") || !slices.Contains(m.Usage, "DECRYPT"):
		return kmsapi.XksKeyInvalidConfigurationException("")
	default:
		return nil
	}
}

// readable is an encryption context as external key stores see it. That it is
// injective is the inner encryption's business.
func readable(context map[string]string) []byte {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(context)) {
		pairs = append(pairs, k+"="+context[k])
	}
	return []byte(strings.Join(pairs, ","))
}

// encryptOutside encrypts twice: with the key's material here, then with the
// external key. Neither can decrypt alone.
func (s *Service) encryptOutside(ctx context.Context, call *iam.Call, t tool, u use, plaintext []byte) ([]byte, error) {
	inner, err := t.material.symmetric.EncryptInner(t.key.owner(), plaintext, u.context)
	if err != nil {
		return nil, err
	}
	c, err := s.config.Proxies.Encrypt(ctx, t.outside.proxy(), t.key.XksKeyID, metadataFor(call, u.operation, t.key.ARN()), inner, readable(u.context))
	if s.told(call, *t.outside, err) != nil {
		return nil, outsideFault(err)
	}
	return t.key.owner().Wrap(t.material.ID, &material.Outer{IV: c.IV, Tag: c.Tag, Metadata: c.Metadata, Ciphertext: c.Ciphertext})
}

// openOutside undoes encryptOutside.
func (s *Service) openOutside(ctx context.Context, call *iam.Call, t tool, u use, b *material.Blob) ([]byte, error) {
	o := b.Outside()
	inner, err := s.config.Proxies.Decrypt(ctx, t.outside.proxy(), t.key.XksKeyID, metadataFor(call, u.operation, t.key.ARN()),
		xks.Ciphertext{Ciphertext: o.Ciphertext, IV: o.IV, Tag: o.Tag, Metadata: o.Metadata}, readable(u.context))
	switch {
	case errors.Is(err, xks.ErrCiphertext):
		return nil, material.ErrOpen
	case s.told(call, *t.outside, err) != nil:
		return nil, outsideFault(err)
	}
	return t.material.symmetric.DecryptInner(b, inner, u.context)
}
