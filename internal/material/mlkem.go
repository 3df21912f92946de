package material

import (
	"bytes"
	"crypto/mlkem"
	"crypto/rand"
	"encoding/asn1"

	sm "github.com/emmansun/gmsm/mlkem"
)

// A kemPair encapsulates (ML-KEM, FIPS 203). The standard library has no
// ML-KEM-512.
type kemPair struct {
	size        int // of a ciphertext
	key         interface{ Decapsulate([]byte) ([]byte, error) }
	public      []byte
	toRecipient func() (shared, ciphertext []byte, err error)
}

const kemSeed = 64 // bytes: d and z

// kemSpecs are the object identifiers of the key specs (RFC 9935).
var kemSpecs = map[string]asn1.ObjectIdentifier{
	"ML_KEM_512":  {2, 16, 840, 1, 101, 3, 4, 4, 1},
	"ML_KEM_768":  {2, 16, 840, 1, 101, 3, 4, 4, 2},
	"ML_KEM_1024": {2, 16, 840, 1, 101, 3, 4, 4, 3},
}

func newKEM(spec string, seed []byte) (kemPair, error) {
	switch spec {
	case "ML_KEM_512":
		k, err := sm.NewDecapsulationKeyFromSeed512(seed)
		if err != nil {
			return kemPair{}, err
		}
		public := k.EncapsulationKey()
		return kemPair{sm.CiphertextSize512, k, public.Bytes(), func() ([]byte, []byte, error) { return public.Encapsulate(rand.Reader) }}, nil
	case "ML_KEM_768":
		k, err := mlkem.NewDecapsulationKey768(seed)
		if err != nil {
			return kemPair{}, err
		}
		return kemPair{mlkem.CiphertextSize768, k, k.EncapsulationKey().Bytes(), infallible(k.EncapsulationKey().Encapsulate)}, nil
	case "ML_KEM_1024":
		k, err := mlkem.NewDecapsulationKey1024(seed)
		if err != nil {
			return kemPair{}, err
		}
		return kemPair{mlkem.CiphertextSize1024, k, k.EncapsulationKey().Bytes(), infallible(k.EncapsulationKey().Encapsulate)}, nil
	default:
		return kemPair{}, ErrSpec
	}
}

func infallible(f func() (shared, ciphertext []byte)) func() ([]byte, []byte, error) {
	return func() ([]byte, []byte, error) {
		shared, ciphertext := f()
		return shared, ciphertext, nil
	}
}

// generateMLKEM draws a seed; the private key is the seed alone, the form that
// RFC 9935 recommends.
func generateMLKEM(spec string) ([]byte, error) {
	seed, err := Random(kemSeed)
	if err != nil {
		return nil, err
	}
	if _, err := newKEM(spec, seed); err != nil {
		return nil, err
	}
	return marshalPKCS8(algorithmIdentifier{Algorithm: kemSpecs[spec]}, append([]byte{0x80, kemSeed}, seed...))
}

func parseMLKEM(spec string, der []byte) (any, []byte, error) {
	id, private, err := parsePKCS8(der)
	seed, found := bytes.CutPrefix(private, []byte{0x80, kemSeed})
	if err != nil || !found || !id.Algorithm.Equal(kemSpecs[spec]) || len(id.Parameters.FullBytes) > 0 {
		return nil, nil, ErrSpec
	}
	k, err := newKEM(spec, seed)
	if err != nil {
		return nil, nil, err
	}
	public, err := marshalPublic(algorithmIdentifier{Algorithm: kemSpecs[spec]}, k.public)
	return k, public, err
}

func (p kemPair) encapsulate() (shared, ciphertext []byte, err error) {
	return p.toRecipient()
}

func (p kemPair) decapsulate(ciphertext []byte) ([]byte, error) {
	if len(ciphertext) != p.size {
		return nil, ErrOpen
	}
	return p.key.Decapsulate(ciphertext)
}
