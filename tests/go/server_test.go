package clients

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

const patience = 60 * time.Second

// The server that all tests ask.
var (
	address string // host:port of the gRPC port
	pages   string // host:port of the HTTP port; empty when the server is somebody else's
	missing string // why there is none
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if given := os.Getenv("VOLARY_SERVER"); given != "" {
		address = strings.TrimPrefix(given, "grpc://")
		return m.Run()
	}
	program := os.Getenv("VOLARY_BIN")
	if program == "" {
		missing = "no server: set VOLARY_SERVER to one's host:port, or VOLARY_BIN to the program"
		return m.Run()
	}
	store, err := os.MkdirTemp("", "volary-go-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(store)
	var stop func()
	address, pages, stop = serve(program, store+"/store")
	defer stop()
	return m.Run()
}

// serve starts a server and gives the host:port of its gRPC port and its HTTP port.
func serve(program, store string, options ...string) (grpcAddress, httpAddress string, stop func()) {
	server := exec.Command(program, append([]string{"serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0",
		"--store", store, "--name", "go-clients", "--log-level", "warn"}, options...)...)
	server.Stderr = os.Stderr
	output, err := server.StdoutPipe()
	if err != nil {
		panic(err)
	}
	if err := server.Start(); err != nil {
		panic(err)
	}
	stop = func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait()
	}
	overdue := time.AfterFunc(patience, func() { _ = server.Process.Kill() })
	defer overdue.Stop()
	listening := regexp.MustCompile(`listening grpc=(\S+) http=(\S+)`)
	for lines := bufio.NewScanner(output); lines.Scan(); {
		if found := listening.FindStringSubmatch(lines.Text()); found != nil {
			return found[1], found[2], stop
		}
	}
	stop()
	panic("the server did not say where it listens")
}

// connect opens a Flight client with grpc-go's own limits: it receives messages of at most 4 MiB.
func connect(t *testing.T, middleware ...flight.ClientMiddleware) flight.Client {
	t.Helper()
	needServer(t)
	client, err := flight.NewClientWithMiddleware(address, nil, middleware,
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func needServer(t *testing.T) {
	t.Helper()
	if missing != "" {
		t.Skip(missing)
	}
}

type fields map[string]any

// command is a command of ours as JSON.
func command(kind string, with fields) []byte {
	message := fields{"@type": "type.googleapis.com/volary.v1." + kind}
	for name, value := range with {
		message[name] = value
	}
	text, err := json.Marshal(message)
	if err != nil {
		panic(err)
	}
	return text
}

func commandDescriptor(kind string, with fields) *flight.FlightDescriptor {
	return &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: command(kind, with)}
}

// try sends an action of ours as JSON and gives its answers.
func try(t *testing.T, client flight.Client, kind string, with fields) ([]fields, error) {
	t.Helper()
	body, err := json.Marshal(with)
	require.NoError(t, err)
	stream, err := client.DoAction(t.Context(), &flight.Action{Type: kind, Body: body})
	require.NoError(t, err)
	var answers []fields
	for {
		result, err := stream.Recv()
		if err == io.EOF {
			return answers, nil
		}
		if err != nil {
			return answers, err
		}
		var answer fields
		require.NoError(t, json.Unmarshal(result.Body, &answer))
		answers = append(answers, answer)
	}
}

// act is try for an action that is to succeed.
func act(t *testing.T, client flight.Client, kind string, with fields) []fields {
	t.Helper()
	answers, err := try(t, client, kind, with)
	require.NoError(t, err)
	return answers
}

// fresh gives a name that no dataset has, neither now nor after the test.
func fresh(t *testing.T, what string) string {
	t.Helper()
	needServer(t)
	name := "go_" + what
	drop := func() {
		client, err := flight.NewClientWithMiddleware(address, nil, nil,
			grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		defer client.Close()
		stream, err := client.DoAction(context.Background(), &flight.Action{
			Type: "DropDataset", Body: []byte(fmt.Sprintf(`{"name": %q}`, name)),
		})
		require.NoError(t, err)
		if err := flight.ReadUntilEOF(stream); status.Code(err) != codes.NotFound {
			require.NoError(t, err)
		}
	}
	drop()
	t.Cleanup(drop)
	return name
}

// upload writes record batches by a command and gives the last acknowledgement.
func upload(t *testing.T, client flight.Client, descriptor *flight.FlightDescriptor, batches ...arrow.RecordBatch) (fields, error) {
	t.Helper()
	stream, err := client.DoPut(t.Context())
	require.NoError(t, err)
	writer := flight.NewRecordWriter(stream, ipc.WithSchema(batches[0].Schema()))
	writer.SetFlightDescriptor(descriptor)
	for _, batch := range batches {
		if err := writer.Write(batch); err != nil {
			break // the server's own words come with the next answer
		}
	}
	_ = writer.Close()
	require.NoError(t, stream.CloseSend())
	var last fields
	for {
		answer, err := stream.Recv()
		if err == io.EOF {
			return last, nil
		}
		if err != nil {
			return nil, err
		}
		last = nil
		require.NoError(t, json.Unmarshal(answer.AppMetadata, &last))
	}
}

// put replaces a dataset.
func put(t *testing.T, client flight.Client, name string, batches ...arrow.RecordBatch) {
	t.Helper()
	_, err := upload(t, client, commandDescriptor("Put", fields{"dataset": name, "mode": "OVERWRITE"}), batches...)
	require.NoError(t, err)
}

// read fetches a ticket's rows.
func read(t *testing.T, client flight.Client, ticket *flight.Ticket) (*arrow.Schema, []arrow.RecordBatch) {
	t.Helper()
	stream, err := client.DoGet(t.Context(), ticket)
	require.NoError(t, err)
	reader, err := flight.NewRecordReader(stream)
	require.NoError(t, err)
	return reader.Schema(), collect(t, reader)
}

func collect(t *testing.T, reader array.RecordReader) []arrow.RecordBatch {
	t.Helper()
	defer reader.Release()
	var batches []arrow.RecordBatch
	for reader.Next() {
		batch := reader.RecordBatch()
		batch.Retain()
		batches = append(batches, batch)
	}
	require.NoError(t, reader.Err())
	return batches
}

// query asks in one call: a Query command is a ticket too.
func query(t *testing.T, client flight.Client, sql string) []fields {
	t.Helper()
	_, batches := read(t, client, &flight.Ticket{Ticket: command("Query", fields{"sql": sql})})
	return rows(t, batches)
}

// rows gives record batches as JSON sees them: numbers as float64.
func rows(t *testing.T, batches []arrow.RecordBatch) []fields {
	t.Helper()
	found := []fields{}
	for _, batch := range batches {
		text, err := batch.MarshalJSON()
		require.NoError(t, err)
		var some []fields
		require.NoError(t, json.Unmarshal(text, &some))
		found = append(found, some...)
	}
	return found
}

// batch makes a record batch of rows written as JSON.
func batch(t *testing.T, schema *arrow.Schema, text string) arrow.RecordBatch {
	t.Helper()
	made, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(text))
	require.NoError(t, err)
	return made
}

// points is a batch whose label is 1 where the sum of two numbers is positive.
func points(t *testing.T, count int) arrow.RecordBatch {
	t.Helper()
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "x", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "y", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "side", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	}, nil)
	builder := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	for row := range count {
		x, y := float64(row*7919%2003)/1001.5-1, float64(row*6007%1999)/999.5-1
		builder.Field(0).(*array.Float64Builder).Append(x)
		builder.Field(1).(*array.Float64Builder).Append(y)
		side := int64(0)
		if x+y > 0 {
			side = 1
		}
		builder.Field(2).(*array.Int64Builder).Append(side)
	}
	return builder.NewRecordBatch()
}

// waitUntilIdle returns when the server has ended every call of a verb.
func waitUntilIdle(t *testing.T, verb string) {
	t.Helper()
	if pages == "" {
		return
	}
	running := regexp.MustCompile(`volary_requests_running\{verb="` + verb + `"\} (\d+)`)
	for deadline := time.Now().Add(patience); ; {
		page, err := http.Get("http://" + pages + "/metrics")
		require.NoError(t, err)
		text, err := io.ReadAll(page.Body)
		require.NoError(t, err)
		require.NoError(t, page.Body.Close())
		found := running.FindStringSubmatch(string(text))
		if found == nil || found[1] == "0" {
			return
		}
		require.True(t, time.Now().Before(deadline), "calls of %s are still open", verb)
	}
}
