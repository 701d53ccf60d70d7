package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The programs of the page for Go run as they stand there.
func TestTheGoOfTheDocumentsRuns(t *testing.T) {
	needServer(t)
	page, err := os.ReadFile("../../docs/clients/adbc.md")
	require.NoError(t, err)
	programs := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	require.Len(t, programs, 2)
	for number, found := range programs {
		file := filepath.Join(t.TempDir(), "program"+strconv.Itoa(number)+".go")
		text := strings.ReplaceAll(found[1], "127.0.0.1:50051", address)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		output, err := exec.Command("go", "run", file).CombinedOutput()
		require.NoError(t, err, "%s", output)
		t.Logf("%s", output)
	}
}
