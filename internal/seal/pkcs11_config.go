package seal

// A PKCS11Config says which key of which HSM is the root key. All fields must be set.
type PKCS11Config struct {
	Module string // path of the HSM's PKCS#11 library, a .so
	Token  string // label of the token
	Key    string // label of the AES-256 key in it; Wrap makes one if there is none
	PIN    []byte // of the token's user; taken over, and cleared by Forget
}
