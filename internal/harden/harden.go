// Package harden keeps what a process has in memory from getting out of it: into core
// dumps, into swap, to a debugger of the same user.
package harden
