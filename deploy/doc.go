// Package deploy has examples of how nodes over an etcd cluster are run, and tests that they
// are what systemd, compose and Kubernetes take, with flags that the program has.
package deploy
