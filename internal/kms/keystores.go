package kms

import (
	"context"
	"errors"
	"slices"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/store"
)

// CreateCustomKeyStore connects the account with an external key manager by its
// proxy, which must answer. The new store is not connected yet.
func (s *Service) CreateCustomKeyStore(ctx context.Context, call *iam.Call, in *kmsapi.CreateCustomKeyStoreRequest) (*kmsapi.CreateCustomKeyStoreResponse, error) {
	id := newKeyStoreID()
	made := &KeyStore{ID: id, Region: call.Region, Account: call.Account(), Name: *in.CustomKeyStoreName, Created: call.Now,
		State: kmsapi.ConnectionStateTypeDisconnected, Endpoint: model.Value(in.XksProxyUriEndpoint), Path: model.Value(in.XksProxyUriPath),
		Connectivity: model.Value(in.XksProxyConnectivity)}
	credential := credentialOf(in.XksProxyAuthenticationCredential)
	may := func(tx *store.Tx) error {
		if err := allowed(tx, call, actions["CreateCustomKeyStore"], "*", &conditions{}); err != nil {
			return err
		}
		if err := checkKeyStore(in); err != nil {
			return err
		}
		return s.register(tx, call, made)
	}
	err := s.attempt(ctx, call, may)
	if err != nil {
		return nil, err
	}
	if err := s.probe(ctx, call, outside{made, credential}, "CreateCustomKeyStore"); err != nil {
		return nil, proxyFault(err)
	}
	err = call.Update(ctx, s.db, func(tx *store.Tx) error {
		if err := may(tx); err != nil {
			return err
		}
		if err := store.Put(tx, proxyCredentialKind, made.credentialKey(), credential.stored()); err != nil {
			return err
		}
		return store.Put(tx, keyStoreKind, made.key(), made)
	})
	return &kmsapi.CreateCustomKeyStoreResponse{CustomKeyStoreId: &id}, err
}

// errAttempt ends an attempt.
var errAttempt = errors.New("kms: only an attempt")

// attempt runs a state change as far as its commit and drops it: to know whether
// it would be allowed before something is done for it outside.
func (s *Service) attempt(ctx context.Context, call *iam.Call, fn func(*store.Tx) error) error {
	err := call.Update(ctx, s.db, func(tx *store.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return errAttempt
	})
	if errors.Is(err, errAttempt) {
		return nil
	}
	return err
}

// checkKeyStore refuses requests that make no key store. The texts of missing and
// unwanted members are UNVERIFIED.
func checkKeyStore(in *kmsapi.CreateCustomKeyStoreRequest) error {
	proxied := in.XksProxyUriEndpoint != nil || in.XksProxyUriPath != nil || in.XksProxyAuthenticationCredential != nil || in.XksProxyConnectivity != nil ||
		in.XksProxyVpcEndpointServiceName != nil || in.XksProxyVpcEndpointServiceOwner != nil
	clustered := in.CloudHsmClusterId != nil || in.KeyStorePassword != nil || in.TrustAnchorCertificate != nil
	if model.Or(in.CustomKeyStoreType, kmsapi.CustomKeyStoreTypeAwsCloudhsm) == kmsapi.CustomKeyStoreTypeAwsCloudhsm {
		switch {
		case proxied:
			return validation("External key store parameters cannot be specified for a custom key store of type AWS_CLOUDHSM.")
		case in.CloudHsmClusterId == nil || in.KeyStorePassword == nil || in.TrustAnchorCertificate == nil:
			return validation("CloudHsmClusterId, KeyStorePassword and TrustAnchorCertificate are required for a custom key store of type AWS_CLOUDHSM.")
		default:
			return kmsapi.CloudHsmClusterNotFoundException("")
		}
	}
	switch {
	case clustered:
		return validation("CloudHSM parameters cannot be specified for a custom key store of type EXTERNAL_KEY_STORE.")
	case in.XksProxyUriEndpoint == nil || in.XksProxyUriPath == nil || in.XksProxyAuthenticationCredential == nil || in.XksProxyConnectivity == nil:
		return validation("XksProxyUriEndpoint, XksProxyUriPath, XksProxyAuthenticationCredential and XksProxyConnectivity are required for a custom key store of type EXTERNAL_KEY_STORE.")
	}
	return checkConnectivity(*in.XksProxyConnectivity, in.XksProxyVpcEndpointServiceName, in.XksProxyVpcEndpointServiceOwner)
}

// checkConnectivity refuses VPC endpoint services, of which there are none here.
func checkConnectivity(connectivity string, service, owner *string) error {
	private := connectivity == kmsapi.XksProxyConnectivityTypeVpcEndpointService
	switch {
	case private && service == nil:
		return validation("XksProxyVpcEndpointServiceName is required when XksProxyConnectivity is VPC_ENDPOINT_SERVICE.") // UNVERIFIED text
	case private:
		return kmsapi.XksProxyVpcEndpointServiceNotFoundException("")
	case service != nil || owner != nil:
		return validation("XksProxyVpcEndpointServiceName and XksProxyVpcEndpointServiceOwner cannot be specified when XksProxyConnectivity is PUBLIC_ENDPOINT.") // UNVERIFIED text
	default:
		return nil
	}
}

// changeKeyStore edits a key store in a transaction, after the operation was
// allowed.
func (s *Service) changeKeyStore(ctx context.Context, call *iam.Call, operation, id string, edit func(*store.Tx, *KeyStore) error) error {
	return call.Update(ctx, s.db, func(tx *store.Tx) error {
		return editKeyStore(tx, call, operation, id, edit)
	})
}

func editKeyStore(tx *store.Tx, call *iam.Call, operation, id string, edit func(*store.Tx, *KeyStore) error) error {
	if err := allowed(tx, call, actions[operation], "*", &conditions{}); err != nil {
		return err
	}
	found, err := findKeyStore(tx, call, id)
	if err != nil {
		return err
	}
	k, err := store.Edit(tx, keyStoreKind, found.key())
	if err != nil {
		return err
	}
	return edit(tx, k)
}

// ConnectCustomKeyStore asks the proxy and makes the store's keys usable. That the
// proxy does not answer is told by the store's state, not by the answer.
func (s *Service) ConnectCustomKeyStore(ctx context.Context, call *iam.Call, in *kmsapi.ConnectCustomKeyStoreRequest) (*struct{}, error) {
	var target outside
	connectable := func(tx *store.Tx, k *KeyStore) (err error) {
		if k.State == kmsapi.ConnectionStateTypeFailed || k.State == kmsapi.ConnectionStateTypeDisconnecting {
			return k.wrongState()
		}
		target, err = k.outside(tx)
		return err
	}
	err := s.attempt(ctx, call, func(tx *store.Tx) error {
		return editKeyStore(tx, call, "ConnectCustomKeyStore", *in.CustomKeyStoreId, connectable)
	})
	if err != nil {
		return nil, err
	}
	failure := s.probe(ctx, call, target, "ConnectCustomKeyStore")
	return &struct{}{}, s.changeKeyStore(ctx, call, "ConnectCustomKeyStore", *in.CustomKeyStoreId, func(tx *store.Tx, k *KeyStore) error {
		if err := connectable(tx, k); err != nil {
			return err
		}
		if k.State == kmsapi.ConnectionStateTypeConnected {
			return nil // goes on
		}
		k.State, k.ErrorCode = kmsapi.ConnectionStateTypeConnected, ""
		if failure != nil {
			k.State, k.ErrorCode = kmsapi.ConnectionStateTypeFailed, connectionError(failure)
		}
		return k.put(tx)
	})
}

// DisconnectCustomKeyStore makes the store's keys unavailable.
func (s *Service) DisconnectCustomKeyStore(ctx context.Context, call *iam.Call, in *kmsapi.DisconnectCustomKeyStoreRequest) (*struct{}, error) {
	return &struct{}{}, s.changeKeyStore(ctx, call, "DisconnectCustomKeyStore", *in.CustomKeyStoreId, func(tx *store.Tx, k *KeyStore) error {
		if k.State == kmsapi.ConnectionStateTypeDisconnected {
			return k.wrongState()
		}
		k.State, k.ErrorCode = kmsapi.ConnectionStateTypeDisconnected, ""
		return k.put(tx)
	})
}

// DeleteCustomKeyStore forgets a key store that is not connected and has no keys.
func (s *Service) DeleteCustomKeyStore(ctx context.Context, call *iam.Call, in *kmsapi.DeleteCustomKeyStoreRequest) (*struct{}, error) {
	return &struct{}{}, s.changeKeyStore(ctx, call, "DeleteCustomKeyStore", *in.CustomKeyStoreId, func(tx *store.Tx, k *KeyStore) error {
		switch {
		case k.Keys > 0:
			return kmsapi.CustomKeyStoreHasCMKsException("")
		case k.State != kmsapi.ConnectionStateTypeDisconnected:
			return k.wrongState()
		}
		x, err := keyStoresOf(tx, call)
		if err != nil {
			return err
		}
		x.Stores = slices.DeleteFunc(x.Stores, func(i indexedStore) bool { return i.ID == k.ID })
		tx.Delete(k.addressKey())
		tx.Delete(k.credentialKey())
		tx.Delete(k.key())
		return store.Put(tx, keyStoreIndexKind, keyStoreIndexKey(call), x)
	})
}

// UpdateCustomKeyStore changes a key store. Its name may change at any time, path
// and credential unless it is being connected, the rest while it is not connected.
func (s *Service) UpdateCustomKeyStore(ctx context.Context, call *iam.Call, in *kmsapi.UpdateCustomKeyStoreRequest) (*struct{}, error) {
	var target outside
	change := func(tx *store.Tx, k *KeyStore) error {
		if in.CloudHsmClusterId != nil || in.KeyStorePassword != nil {
			return validation("CloudHSM parameters cannot be specified for a custom key store of type EXTERNAL_KEY_STORE.") // UNVERIFIED text
		}
		if err := k.rename(tx, call, in.NewCustomKeyStoreName); err != nil {
			return err
		}
		if err := k.move(tx, in); err != nil {
			return err
		}
		var err error
		if target, err = k.outside(tx); err != nil {
			return err
		}
		if c := in.XksProxyAuthenticationCredential; c != nil {
			target.credential = credentialOf(c)
			if err := store.Put(tx, proxyCredentialKind, k.credentialKey(), target.credential.stored()); err != nil {
				return err
			}
		}
		return k.put(tx)
	}
	moves := in.XksProxyUriEndpoint != nil || in.XksProxyUriPath != nil || in.XksProxyConnectivity != nil || in.XksProxyAuthenticationCredential != nil
	if moves {
		err := s.attempt(ctx, call, func(tx *store.Tx) error {
			return editKeyStore(tx, call, "UpdateCustomKeyStore", *in.CustomKeyStoreId, change)
		})
		if err != nil {
			return nil, err
		}
		if err := s.probe(ctx, call, target, "UpdateCustomKeyStore"); err != nil {
			return nil, proxyFault(err)
		}
	}
	return &struct{}{}, s.changeKeyStore(ctx, call, "UpdateCustomKeyStore", *in.CustomKeyStoreId, change)
}

// DescribeCustomKeyStores shows the key stores of the account and Region, or one
// of them. It never shows the proxy's secret.
func (s *Service) DescribeCustomKeyStores(ctx context.Context, call *iam.Call, in *kmsapi.DescribeCustomKeyStoresRequest) (*kmsapi.DescribeCustomKeyStoresResponse, error) {
	if in.CustomKeyStoreId != nil && in.CustomKeyStoreName != nil {
		return nil, validation("CustomKeyStoreId and CustomKeyStoreName cannot be specified together.") // UNVERIFIED text
	}
	p, err := newPage("DescribeCustomKeyStores", in.Marker, in.Limit, 100, 1000)
	if err != nil {
		return nil, err
	}
	out := &kmsapi.DescribeCustomKeyStoresResponse{}
	err = s.view(ctx, call, func(tx *store.Tx) error {
		if err := allowed(tx, call, actions["DescribeCustomKeyStores"], "*", &conditions{}); err != nil {
			return err
		}
		x, err := store.Get(tx, keyStoreIndexKind, keyStoreIndexKey(call))
		if errors.Is(err, store.ErrNotFound) {
			x, err = &keyStoreIndex{}, nil
		}
		if err != nil {
			return err
		}
		shown := slices.DeleteFunc(slices.Clone(x.Stores), func(i indexedStore) bool {
			return i.ID <= p.after || in.CustomKeyStoreId != nil && i.ID != *in.CustomKeyStoreId || in.CustomKeyStoreName != nil && i.Name != *in.CustomKeyStoreName
		})
		if len(shown) == 0 && (in.CustomKeyStoreId != nil || in.CustomKeyStoreName != nil) {
			return noSuchKeyStore()
		}
		shown, out.Truncated, out.NextMarker = cut(p, shown, func(i indexedStore) string { return i.ID })
		out.CustomKeyStores = []kmsapi.CustomKeyStoresListEntry{}
		for _, i := range shown {
			k, err := findKeyStore(tx, call, i.ID)
			if err != nil {
				return err
			}
			entry, err := k.entry(tx)
			if err != nil {
				return err
			}
			out.CustomKeyStores = append(out.CustomKeyStores, entry)
		}
		return nil
	})
	return out, err
}

func (s *KeyStore) entry(tx *store.Tx) (kmsapi.CustomKeyStoresListEntry, error) {
	o, err := s.outside(tx)
	if err != nil {
		return kmsapi.CustomKeyStoresListEntry{}, err
	}
	e := kmsapi.CustomKeyStoresListEntry{
		CustomKeyStoreId: &s.ID, CustomKeyStoreName: &s.Name, ConnectionState: &s.State, CreationDate: model.At(s.Created),
		CustomKeyStoreType: new(kmsapi.CustomKeyStoreTypeExternalKeyStore),
		XksProxyConfiguration: &kmsapi.XksProxyConfigurationType{Connectivity: &s.Connectivity, AccessKeyId: &o.credential.AccessKeyID,
			UriEndpoint: &s.Endpoint, UriPath: &s.Path},
	}
	if s.ErrorCode != "" {
		e.ConnectionErrorCode = &s.ErrorCode
	}
	return e, nil
}
