// Package clients holds what Go programs do with a server, as tests: the bare Flight client of arrow-go, its Flight SQL client,
// the ADBC driver and database/sql on top of it. Nothing in it is ours, and nothing knows more of the server than
// docs/protocol.md says.
//
// The tests ask the server that VOLARY_SERVER names (host:port), or start the program that VOLARY_BIN names:
//
//	VOLARY_BIN=target/release/volary go test ./...
package clients
