package clients

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/apache/arrow-adbc/go/adbc"
	driver "github.com/apache/arrow-adbc/go/adbc/driver/flightsql"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// issued is a certificate and its key, and both in PEM.
type issued struct {
	certificate      *x509.Certificate
	key              *ecdsa.PrivateKey
	chainPEM, keyPEM []byte
}

// issue makes a certificate for 127.0.0.1, or an issuer when there is none.
func issue(t *testing.T, name string, issuer *issued) *issued {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	parent, signer := template, key
	if issuer == nil {
		template.IsCA, template.BasicConstraintsValid = true, true
		template.KeyUsage = x509.KeyUsageCertSign
	} else {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
		parent, signer = issuer.certificate, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	bytes, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return &issued{
		certificate: certificate,
		key:         key,
		chainPEM:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		keyPEM:      pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: bytes}),
	}
}

// write puts PEM into a file.
func write(t *testing.T, folder, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(folder, name)
	require.NoError(t, os.WriteFile(path, text, 0o600))
	return path
}

func TestAServerThatAsksForCertificatesAnswersWhoShowsOne(t *testing.T) {
	program := os.Getenv("VOLARY_BIN")
	if program == "" {
		t.Skip("VOLARY_BIN names no program")
	}
	root := issue(t, "ca", nil)
	server, client := issue(t, "server", root), issue(t, "client", root)
	folder := t.TempDir()
	guarded, _, stop := serve(program, folder+"/store",
		"--tls-certificate", write(t, folder, "server.pem", server.chainPEM),
		"--tls-key", write(t, folder, "server.key", server.keyPEM),
		"--tls-client-ca", write(t, folder, "ca.pem", root.chainPEM))
	defer stop()

	trusted := x509.NewCertPool()
	trusted.AddCert(root.certificate)
	own, err := tls.X509KeyPair(client.chainPEM, client.keyPEM)
	require.NoError(t, err)
	members := func(with credentials.TransportCredentials) error {
		connection, err := flight.NewClientWithMiddleware(guarded, nil, nil, grpc.WithTransportCredentials(with))
		require.NoError(t, err)
		defer connection.Close()
		stream, err := connection.DoAction(t.Context(), &flight.Action{Type: "ListMembers", Body: []byte("{}")})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	require.NoError(t, members(credentials.NewTLS(&tls.Config{RootCAs: trusted, Certificates: []tls.Certificate{own}})))
	for name, wrong := range map[string]credentials.TransportCredentials{
		"no certificate shown": credentials.NewTLS(&tls.Config{RootCAs: trusted}),
		"an issuer unknown":    credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{own}}),
		"no TLS":               insecure.NewCredentials(),
	} {
		err := members(wrong)
		require.Equal(t, codes.Unavailable, status.Code(err), "%s: %v", name, err)
	}

	// The ADBC driver.
	database, err := driver.NewDriver(memory.DefaultAllocator).NewDatabase(map[string]string{
		adbc.OptionKeyURI:           "grpc+tls://" + guarded,
		driver.OptionSSLRootCerts:   string(root.chainPEM),
		driver.OptionMTLSCertChain:  string(client.chainPEM),
		driver.OptionMTLSPrivateKey: string(client.keyPEM),
	})
	require.NoError(t, err)
	defer database.Close()
	connection, err := database.Open(t.Context())
	require.NoError(t, err)
	defer connection.Close()
	require.Len(t, ask(t, connection, "SELECT 1"), 1)
}
