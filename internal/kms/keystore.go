package kms

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/material"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/store"
)

// A KeyStore is the record of a custom key store: an external one. CloudHSM
// clusters, which the other kind needs, do not exist here.
type KeyStore struct {
	ID, Region, Account string
	Name                string
	Created             time.Time
	State               string // kmsapi.ConnectionStateType…
	ErrorCode           string `json:",omitzero"` // why it is FAILED

	Endpoint     string // https://HOST
	Path         string
	Connectivity string
	Keys         int // in every state
}

var keyStoreKind = store.Kind[KeyStore]{Tag: 42, Name: "custom key store"}

func keyStoreKey(region, account, id string) string {
	return "k/" + region + "/" + account + "/keystore/" + id
}

func (s *KeyStore) key() string { return keyStoreKey(s.Region, s.Account, s.ID) }

// A proxyCredential is what a key store's requests are signed with. It is a record
// of its own, which is written whole and never edited.
type proxyCredential struct {
	AccessKeyID string
	Secret      []byte

	secret material.Secret // what Secret was
}

func (c *proxyCredential) prepare() error {
	c.secret, c.Secret = material.NewSecret(c.Secret), nil
	return nil
}

var proxyCredentialKind = store.Kind[proxyCredential]{Tag: 43, Name: "key store proxy credential", Prepare: (*proxyCredential).prepare}

func (s *KeyStore) credentialKey() string {
	return "k/" + s.Region + "/" + s.Account + "/keystorecredential/" + s.ID
}

// A keyStoreIndex lists the key stores of an account and Region, so that names
// stay unique.
type keyStoreIndex struct {
	Stores []indexedStore // sorted by id
}

type indexedStore struct{ ID, Name string }

var keyStoreIndexKind = store.Kind[keyStoreIndex]{Tag: 44, Name: "custom key stores of an account"}

func keyStoreIndexKey(call *iam.Call) string {
	return "k/" + call.Region + "/" + call.Account() + "/keystores"
}

func keyStoresOf(tx *store.Tx, call *iam.Call) (*keyStoreIndex, error) {
	x, err := store.Edit(tx, keyStoreIndexKind, keyStoreIndexKey(call))
	if errors.Is(err, store.ErrNotFound) {
		return &keyStoreIndex{}, nil
	}
	return x, err
}

// A claim says that something belongs to one key store or key: the address of a
// proxy in a Region, an external key in a key store.
type claim struct{ Owner string }

var claimKind = store.Kind[claim]{Tag: 45, Name: "claim"}

func (s *KeyStore) addressKey() string { return "k/" + s.Region + "/xksuri/" + s.Endpoint + s.Path }

func xksKeyKey(k *Key) string {
	return "k/" + k.Region + "/" + k.Account + "/xkskey/" + k.StoreID + "/" + k.XksKeyID
}

// take claims key for owner; taken is the fault if somebody else has it.
func take(tx *store.Tx, key, owner string, taken *model.Fault) error {
	c, err := store.Get(tx, claimKind, key)
	switch {
	case err == nil && c.Owner != owner:
		return taken
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return err
	}
	return store.Put(tx, claimKind, key, &claim{owner})
}

// findKeyStore finds a key store of the caller's account and Region.
func findKeyStore(tx *store.Tx, call *iam.Call, id string) (*KeyStore, error) {
	s, err := store.Get(tx, keyStoreKind, keyStoreKey(call.Region, call.Account(), id))
	if errors.Is(err, store.ErrNotFound) {
		err = noSuchKeyStore()
	}
	return s, err
}

func noSuchKeyStore() error { return kmsapi.CustomKeyStoreNotFoundException("") }

func newKeyStoreID() string {
	var b [9]byte
	_, _ = rand.Read(b[:]) // never fails
	return "cks-" + hex.EncodeToString(b[:])[:17]
}

func (s *KeyStore) put(tx *store.Tx) error { return store.Put(tx, keyStoreKind, s.key(), s) }

// wrongState is the fault for an operation that a key store's connection state
// does not admit.
func (s *KeyStore) wrongState() error {
	return kmsapi.CustomKeyStoreInvalidStateException("The custom key store " + s.ID + " is " + s.State + ".") // UNVERIFIED text
}

// register lists a new key store and claims its name and its proxy's address.
func (s *Service) register(tx *store.Tx, call *iam.Call, made *KeyStore) error {
	x, err := keyStoresOf(tx, call)
	if err != nil {
		return err
	}
	switch {
	case slices.ContainsFunc(x.Stores, func(i indexedStore) bool { return i.Name == made.Name }):
		return kmsapi.CustomKeyStoreNameInUseException("")
	case len(x.Stores) >= s.config.Quotas.KeyStores:
		return kmsapi.LimitExceededException("The number of custom key stores has reached the limit of the account.")
	}
	if err := take(tx, made.addressKey(), made.ID, kmsapi.XksProxyUriInUseException("")); err != nil {
		return err
	}
	x.Stores = append(x.Stores, indexedStore{made.ID, made.Name})
	slices.SortFunc(x.Stores, func(a, b indexedStore) int { return cmp.Compare(a.ID, b.ID) })
	return store.Put(tx, keyStoreIndexKind, keyStoreIndexKey(call), x)
}

func (s *KeyStore) rename(tx *store.Tx, call *iam.Call, name *string) error {
	if name == nil || *name == s.Name {
		return nil
	}
	x, err := keyStoresOf(tx, call)
	if err != nil {
		return err
	}
	for i := range x.Stores {
		if x.Stores[i].Name == *name {
			return kmsapi.CustomKeyStoreNameInUseException("")
		}
		if x.Stores[i].ID == s.ID {
			x.Stores[i].Name = *name
		}
	}
	s.Name = *name
	return store.Put(tx, keyStoreIndexKind, keyStoreIndexKey(call), x)
}

// move changes where the proxy is.
func (s *KeyStore) move(tx *store.Tx, in *kmsapi.UpdateCustomKeyStoreRequest) error {
	elsewhere := in.XksProxyUriEndpoint != nil || in.XksProxyConnectivity != nil || in.XksProxyVpcEndpointServiceName != nil || in.XksProxyVpcEndpointServiceOwner != nil
	here := in.XksProxyUriPath != nil || in.XksProxyAuthenticationCredential != nil
	connected := s.State == kmsapi.ConnectionStateTypeConnected
	if s.State != kmsapi.ConnectionStateTypeDisconnected && (elsewhere || here && !connected) {
		return s.wrongState()
	}
	if err := checkConnectivity(model.Or(in.XksProxyConnectivity, s.Connectivity), in.XksProxyVpcEndpointServiceName, in.XksProxyVpcEndpointServiceOwner); err != nil {
		return err
	}
	before := s.addressKey()
	s.Endpoint, s.Path = model.Or(in.XksProxyUriEndpoint, s.Endpoint), model.Or(in.XksProxyUriPath, s.Path)
	if s.addressKey() == before {
		return nil
	}
	tx.Delete(before)
	return take(tx, s.addressKey(), s.ID, kmsapi.XksProxyUriInUseException(""))
}

// joinKeyStore puts a new key into its key store.
func joinKeyStore(tx *store.Tx, call *iam.Call, k *Key) error {
	found, err := findKeyStore(tx, call, k.StoreID)
	if err != nil {
		return err
	}
	if found.State != kmsapi.ConnectionStateTypeConnected {
		return found.wrongState()
	}
	if err := take(tx, xksKeyKey(k), k.ID, kmsapi.XksKeyAlreadyInUseException("")); err != nil {
		return err
	}
	return countInStore(tx, found, 1)
}

// leaveKeyStore takes a key that is being removed out of its key store.
func leaveKeyStore(tx *store.Tx, k *Key) error {
	if k.StoreID == "" {
		return nil
	}
	tx.Delete(xksKeyKey(k))
	found, err := store.Get(tx, keyStoreKind, keyStoreKey(k.Region, k.Account, k.StoreID))
	if err != nil {
		return err
	}
	return countInStore(tx, found, -1)
}

func countInStore(tx *store.Tx, s *KeyStore, n int) error {
	k, err := store.Edit(tx, keyStoreKind, s.key())
	if err != nil {
		return err
	}
	k.Keys += n
	return k.put(tx)
}
