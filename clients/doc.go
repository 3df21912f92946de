// Package clients holds tests that drive Claviger with the programs and
// libraries that people use AWS KMS with. It is a module of its own, so that
// nothing of what they need reaches the product.
//
//	make test-clients
//
// The tests install the programs that are missing: Debian packages with apt-get,
// others in the user's cache directory, under claviger-clients. The build tag cse
// adds the test of MongoDB's driver, which is linked with libmongocrypt.
package clients
