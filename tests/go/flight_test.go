package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

var peopleSchema = arrow.NewSchema([]arrow.Field{
	{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "age", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
}, nil)

const peopleRows = `[{"name": "ann", "age": 39}, {"name": "bob", "age": 50}, {"name": null, "age": 28}]`

func TestADatasetIsUploadedListedReadAndDropped(t *testing.T) {
	client, name := connect(t), fresh(t, "people")
	people := batch(t, peopleSchema, peopleRows)
	path := &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{name}}

	last, err := upload(t, client, path, people)
	require.NoError(t, err)
	require.Equal(t, fields{"rows": 3.0, "version": 0.0}, last)
	_, err = upload(t, client, path, people)
	require.Equal(t, codes.AlreadyExists, status.Code(err))
	require.ErrorContains(t, err, name)
	last, err = upload(t, client, commandDescriptor("Put", fields{"dataset": name, "mode": "APPEND"}), people)
	require.NoError(t, err)
	require.Equal(t, fields{"rows": 3.0, "version": 1.0}, last)

	flights, err := client.ListFlights(t.Context(), &flight.Criteria{Expression: []byte(name)})
	require.NoError(t, err)
	listed, err := flights.Recv()
	require.NoError(t, err)
	require.Equal(t, []string{name}, listed.FlightDescriptor.Path)
	_, err = flights.Recv()
	require.ErrorIs(t, err, io.EOF)

	info, err := client.GetFlightInfo(t.Context(), path)
	require.NoError(t, err)
	require.EqualValues(t, 6, info.TotalRecords)
	promised, err := flight.DeserializeSchema(info.Schema, memory.DefaultAllocator)
	require.NoError(t, err)
	result, err := client.GetSchema(t.Context(), path)
	require.NoError(t, err)
	require.Equal(t, info.Schema, result.Schema)
	streamed, batches := read(t, client, info.Endpoint[0].Ticket)
	require.True(t, promised.Equal(streamed))
	require.Len(t, rows(t, batches), 6)

	require.Equal(t, []fields{{"name": "bob"}}, query(t, client, "SELECT name FROM "+name+" WHERE age > 40 LIMIT 1"))
	act(t, client, "DropDataset", fields{"name": name})
	_, err = client.GetFlightInfo(t.Context(), path)
	require.Equal(t, codes.NotFound, status.Code(err))
}

func TestResultsAndUploadsOfManyMegabytesFitTheDefaultLimits(t *testing.T) {
	client, name := connect(t), fresh(t, "large")
	_, batches := read(t, client, &flight.Ticket{Ticket: command("Query", fields{
		"sql": "SELECT value, repeat('text', 5) AS words FROM generate_series(1, 500000)",
	})})
	total := int64(0)
	for _, each := range batches {
		total += each.NumRows()
	}
	require.EqualValues(t, 500_000, total)

	// One batch of 24 MB goes up in one message, and comes back in messages that fit.
	put(t, client, name, points(t, 1_000_000))
	require.Equal(t, []fields{{"n": 1e6}}, query(t, client, "SELECT count(*) AS n FROM "+name))
	_, batches = read(t, client, &flight.Ticket{Ticket: command("Query", fields{"sql": "SELECT * FROM " + name})})
	require.Greater(t, len(batches), 6)
}

func TestEveryTypeComesBackAsItWas(t *testing.T) {
	client, name := connect(t), fresh(t, "types")
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "bool", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: "int8", Type: arrow.PrimitiveTypes.Int8, Nullable: true},
		{Name: "uint64", Type: arrow.PrimitiveTypes.Uint64, Nullable: true},
		{Name: "float16", Type: arrow.FixedWidthTypes.Float16, Nullable: true},
		{Name: "float32", Type: arrow.PrimitiveTypes.Float32, Nullable: true},
		{Name: "text", Type: arrow.BinaryTypes.LargeString, Nullable: true},
		{Name: "bytes", Type: arrow.BinaryTypes.Binary, Nullable: true},
		{Name: "fixed", Type: &arrow.FixedSizeBinaryType{ByteWidth: 3}, Nullable: true},
		{Name: "date", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
		{Name: "time", Type: arrow.FixedWidthTypes.Time64us, Nullable: true},
		{Name: "moment", Type: &arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "Europe/Berlin"}, Nullable: true},
		{Name: "duration", Type: arrow.FixedWidthTypes.Duration_ms, Nullable: true},
		{Name: "price", Type: &arrow.Decimal128Type{Precision: 10, Scale: 2}, Nullable: true},
		{Name: "list", Type: arrow.ListOf(arrow.PrimitiveTypes.Int32), Nullable: true},
		{Name: "pair", Type: arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Float64), Nullable: true},
		{Name: "struct", Type: arrow.StructOf(
			arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
			arrow.Field{Name: "b", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true}), Nullable: true},
		{Name: "map", Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64), Nullable: true},
		{Name: "nothing", Type: arrow.Null, Nullable: true},
		{Name: "strict", Type: arrow.PrimitiveTypes.Int64},
	}, nil)
	sent := batch(t, schema, `[
		{"bool": true, "int8": -7, "uint64": 18446744073709551615, "float16": 1.5, "float32": 2.5, "text": "ä",
		 "bytes": "AP8=", "fixed": "YWJj", "date": "2026-11-22", "time": "10:30:00.123456",
		 "moment": "2026-11-22 10:30:00.123456789Z", "duration": "5ms", "price": "12.34", "list": [1, null],
		 "pair": [1.5, 2.5], "struct": {"a": 1, "b": ["x", null]}, "map": [{"key": "a", "value": 1}], "nothing": null,
		 "strict": 1},
		{"strict": 2}]`)
	put(t, client, name, sent)
	received, batches := read(t, client, &flight.Ticket{Ticket: command("Query", fields{"sql": "SELECT * FROM " + name})})
	require.True(t, schema.Equal(received), "%s\n%s", schema, received)
	require.Len(t, batches, 1)
	require.True(t, array.RecordEqual(sent, batches[0]), "%s\n%s", sent, batches[0])
}

func TestDictionariesComeBackAsTheirValues(t *testing.T) {
	client, name := connect(t), fresh(t, "dictionary")
	kind := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}
	builder := array.NewDictionaryBuilder(memory.DefaultAllocator, kind).(*array.BinaryDictionaryBuilder)
	for _, each := range []string{"x", "y", "x"} {
		require.NoError(t, builder.AppendString(each))
	}
	builder.AppendNull()
	schema := arrow.NewSchema([]arrow.Field{{Name: "word", Type: kind, Nullable: true}}, nil)
	put(t, client, name, array.NewRecordBatch(schema, []arrow.Array{builder.NewArray()}, 4))
	received, batches := read(t, client, &flight.Ticket{Ticket: command("Query", fields{"sql": "SELECT * FROM " + name})})
	require.Equal(t, arrow.BinaryTypes.String, received.Field(0).Type)
	require.Equal(t, []fields{{"word": "x"}, {"word": "y"}, {"word": "x"}, {"word": nil}}, rows(t, batches))
}

func TestADatasetIsReadSideBySide(t *testing.T) {
	client, name := connect(t), fresh(t, "parts")
	for part := range 4 {
		_, err := upload(t, client, commandDescriptor("Put", fields{"dataset": name, "mode": "APPEND"}), points(t, 1000+part))
		require.NoError(t, err)
	}
	info, err := client.GetFlightInfo(t.Context(), commandDescriptor("Read", fields{
		"dataset": name, "endpoints": 4, "columns": []string{"side", "x"},
	}))
	require.NoError(t, err)
	require.Len(t, info.Endpoint, 4)
	require.True(t, info.Ordered)
	parts := make([][]fields, len(info.Endpoint))
	var reading sync.WaitGroup
	for index, endpoint := range info.Endpoint {
		require.Empty(t, endpoint.Location, "no location means the server that was asked")
		reading.Go(func() {
			_, batches := read(t, client, endpoint.Ticket)
			parts[index] = rows(t, batches)
		})
	}
	reading.Wait()
	whole := []fields{}
	for _, part := range parts {
		require.NotEmpty(t, part)
		whole = append(whole, part...)
	}
	// SQL promises no order without ORDER BY; a dataset read by its path has that of its uploads.
	info, err = client.GetFlightInfo(t.Context(), &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{name}})
	require.NoError(t, err)
	_, batches := read(t, client, info.Endpoint[0].Ticket)
	expected := rows(t, batches)
	for _, row := range expected {
		delete(row, "y")
	}
	require.Equal(t, expected, whole)
}

func TestManyWritersMakeOneVersion(t *testing.T) {
	client, name := connect(t), fresh(t, "written_in_parts")
	begun := act(t, client, "BeginUpload", fields{"dataset": name, "mode": "ERROR"})[0]
	chosen := make([]fields, 4)
	var writing sync.WaitGroup
	for part := range chosen {
		writing.Go(func() {
			answer, err := upload(t, client, commandDescriptor("PutPart", fields{
				"upload": begun["id"], "part": fmt.Sprint(part), "attempt": 0,
			}), points(t, 100))
			require.NoError(t, err)
			require.Equal(t, 100.0, answer["rows"])
			chosen[part] = fields{"part": fmt.Sprint(part), "attempt": 0}
		})
	}
	writing.Wait()
	_, err := client.GetFlightInfo(t.Context(), &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{name}})
	require.Equal(t, codes.NotFound, status.Code(err), "nothing is seen before the commit")
	committed := act(t, client, "CommitUpload", fields{"id": begun["id"], "parts": chosen})[0]
	require.Equal(t, 0.0, committed["version"])
	require.Equal(t, []fields{{"n": 400.0}}, query(t, client, "SELECT count(*) AS n FROM "+name))
}

// training is the body of a Train action: a small model of points.
func training(name, dataset string) fields {
	return fields{
		"name": name, "source": fields{"table": dataset}, "label": "side", "epochs": 6, "batch_size": 64, "seed": 7,
		"model": fields{"format_version": 1, "name": name, "outputs": []string{"answer"}, "layers": []fields{
			{"name": "features", "layer": "Input"},
			{"name": "answer", "layer": "Dense", "config": fields{"units": 1, "activation": "sigmoid"}, "inputs": []string{"features"}},
		}},
		"loss": "binary_crossentropy", "metrics": []string{"accuracy"}, "optimizer": fields{"name": "adam", "learning_rate": 0.05},
	}
}

func TestAModelIsTrainedAndAnswersBatchForBatch(t *testing.T) {
	client, name := connect(t), fresh(t, "points")
	put(t, client, name, points(t, 2000))
	job := act(t, client, "Train", training("go-points", name))[0]
	states := act(t, client, "WatchJob", fields{"id": job["id"]})
	require.Equal(t, "SUCCEEDED", states[len(states)-1]["state"])
	defer act(t, client, "DropModel", fields{"name": "go-points"})

	stream, err := client.DoExchange(t.Context())
	require.NoError(t, err)
	asked := points(t, 300)
	writer := flight.NewRecordWriter(stream, ipc.WithSchema(asked.Schema()))
	writer.SetFlightDescriptor(commandDescriptor("Predict", fields{"model": "go-points", "keep": []string{"side"}}))
	var reader *flight.Reader
	right := 0
	for number := range 3 {
		require.NoError(t, writer.WriteWithAppMetadata(asked.NewSlice(int64(number*100), int64(number*100+100)), []byte{byte(number)}))
		if reader == nil {
			reader, err = flight.NewRecordReader(stream)
			require.NoError(t, err)
		}
		require.True(t, reader.Next(), "%v", reader.Err())
		answer := reader.RecordBatch()
		require.EqualValues(t, 100, answer.NumRows())
		require.Equal(t, []byte{byte(number)}, reader.LatestAppMetadata())
		for _, row := range rows(t, []arrow.RecordBatch{answer}) {
			if row["prediction"] == row["side"] {
				right++
			}
		}
	}
	require.NoError(t, stream.CloseSend())
	require.False(t, reader.Next())
	require.NoError(t, reader.Err())
	require.Greater(t, right, 270)
}

func TestAJobIsPolledToItsEnd(t *testing.T) {
	client, name := connect(t), fresh(t, "polled")
	put(t, client, name, points(t, 1000))
	next := commandDescriptor("Train", training("go-polled", name))
	progress := []float64{}
	var poll *flight.PollInfo
	for next != nil {
		var err error
		poll, err = client.PollFlightInfo(t.Context(), next)
		require.NoError(t, err)
		progress = append(progress, poll.GetProgress())
		next = poll.FlightDescriptor
	}
	defer act(t, client, "DropModel", fields{"name": "go-polled"})
	require.IsNonDecreasing(t, progress)
	require.Equal(t, 1.0, progress[len(progress)-1])
	var job fields
	require.NoError(t, json.Unmarshal(poll.Info.AppMetadata, &job))
	require.Equal(t, "SUCCEEDED", job["state"])
	_, batches := read(t, client, poll.Info.Endpoint[0].Ticket)
	require.Len(t, rows(t, batches), 6, "a row of history for each epoch")

	// A job that fails ends the poll in its own words.
	_, err := client.PollFlightInfo(t.Context(), commandDescriptor("Train", training("go-polled", "go_nowhere")))
	require.Equal(t, codes.NotFound, status.Code(err))
	require.ErrorContains(t, err, "go_nowhere")
}

const endless = "SELECT value FROM generate_series(1, 1000000000000)"

func TestACallThatIsGivenUpStopsTheWork(t *testing.T) {
	client := connect(t)
	ctx, giveUp := context.WithCancel(t.Context())
	stream, err := client.DoGet(ctx, &flight.Ticket{Ticket: command("Query", fields{"sql": endless})})
	require.NoError(t, err)
	reader, err := flight.NewRecordReader(stream)
	require.NoError(t, err)
	require.True(t, reader.Next())
	giveUp()
	for reader.Next() {
	}
	require.Equal(t, codes.Canceled, status.Code(reader.Err()))
	waitUntilIdle(t, "do_get")
}

func TestAQueryIsCancelledByItsInfo(t *testing.T) {
	client := connect(t)
	info, err := client.GetFlightInfo(t.Context(), commandDescriptor("Query", fields{"sql": endless}))
	require.NoError(t, err)
	stream, err := client.DoGet(t.Context(), info.Endpoint[0].Ticket)
	require.NoError(t, err)
	reader, err := flight.NewRecordReader(stream)
	require.NoError(t, err)
	require.True(t, reader.Next())

	result, err := client.CancelFlightInfo(t.Context(), &flight.CancelFlightInfoRequest{Info: info})
	require.NoError(t, err)
	require.Contains(t, []flight.CancelStatus{flight.CancelStatusCancelled, flight.CancelStatusCancelling}, result.Status)
	for reader.Next() {
	}
	require.Equal(t, codes.Canceled, status.Code(reader.Err()), "%v", reader.Err())
	waitUntilIdle(t, "do_get")
}

func TestAnEndpointIsRenewed(t *testing.T) {
	client, name := connect(t), fresh(t, "renewed")
	put(t, client, name, batch(t, peopleSchema, peopleRows))
	info, err := client.GetFlightInfo(t.Context(), commandDescriptor("Read", fields{"dataset": name}))
	require.NoError(t, err)
	endpoint := info.Endpoint[0]
	require.NotNil(t, endpoint.ExpirationTime)
	renewed, err := client.RenewFlightEndpoint(t.Context(), &flight.RenewFlightEndpointRequest{Endpoint: endpoint})
	require.NoError(t, err)
	require.False(t, renewed.ExpirationTime.AsTime().Before(endpoint.ExpirationTime.AsTime()))
	_, batches := read(t, client, renewed.Ticket)
	require.Len(t, rows(t, batches), 3)

	forged := proto.Clone(endpoint).(*flight.FlightEndpoint)
	forged.Ticket.Ticket[len(forged.Ticket.Ticket)-1] ^= 1
	_, err = client.RenewFlightEndpoint(t.Context(), &flight.RenewFlightEndpointRequest{Endpoint: forged})
	require.Contains(t, []codes.Code{codes.InvalidArgument, codes.NotFound}, status.Code(err))
}

func TestCompressionIsAnsweredWhenAskedFor(t *testing.T) {
	client := connect(t)
	asked := &flight.Ticket{Ticket: command("Query", fields{"sql": "SELECT 7 AS seven FROM generate_series(1, 100000)"})}
	sizes := map[string]int{}
	for _, codec := range []string{"none", "lz4", "zstd"} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "volary-compression", codec)
		stream, err := client.DoGet(ctx, asked)
		require.NoError(t, err)
		counted := &countingStream{FlightService_DoGetClient: stream}
		reader, err := flight.NewRecordReader(counted)
		require.NoError(t, err)
		total := int64(0)
		for _, each := range collect(t, reader) {
			total += each.NumRows()
		}
		require.EqualValues(t, 100_000, total)
		sizes[codec] = counted.bytes
	}
	require.Less(t, sizes["lz4"], sizes["none"]/2)
	require.Less(t, sizes["zstd"], sizes["none"]/2)
}

// countingStream counts the bytes of columns that came.
type countingStream struct {
	flight.FlightService_DoGetClient
	bytes int
}

func (s *countingStream) Recv() (*flight.FlightData, error) {
	data, err := s.FlightService_DoGetClient.Recv()
	s.bytes += len(data.GetDataBody())
	return data, err
}

func TestSessionsKeepOptionsInACookie(t *testing.T) {
	client := connect(t, flight.NewClientCookieMiddleware())
	options, err := flight.NewSessionOptionValues(map[string]any{"catalog": "volary", "schema": "public"})
	require.NoError(t, err)
	set, err := client.SetSessionOptions(t.Context(), &flight.SetSessionOptionsRequest{SessionOptions: options})
	require.NoError(t, err)
	require.Empty(t, set.Errors)
	got, err := client.GetSessionOptions(t.Context(), &flight.GetSessionOptionsRequest{})
	require.NoError(t, err)
	require.Equal(t, "volary", got.SessionOptions["catalog"].GetStringValue())

	options, err = flight.NewSessionOptionValues(map[string]any{"catalog": "elsewhere", "flavour": "sweet"})
	require.NoError(t, err)
	set, err = client.SetSessionOptions(t.Context(), &flight.SetSessionOptionsRequest{SessionOptions: options})
	require.NoError(t, err)
	require.Equal(t, flight.SetSessionOptionsResultErrorInvalidValue, set.Errors["catalog"].GetValue())
	require.Equal(t, flight.SetSessionOptionsResultErrorInvalidName, set.Errors["flavour"].GetValue())

	closed, err := client.CloseSession(t.Context(), &flight.CloseSessionRequest{})
	require.NoError(t, err)
	require.Equal(t, flight.CloseSessionResultClosed, closed.Status)
}

func TestALoginIsGivenAToken(t *testing.T) {
	client := connect(t)
	// Of several lengths: arrow-go leaves out the padding of base64.
	for _, user := range []string{"a", "an", "ann"} {
		ctx, err := client.AuthenticateBasicToken(t.Context(), user, "secret")
		require.NoError(t, err, user)
		sent, _ := metadata.FromOutgoingContext(ctx)
		require.Contains(t, sent.Get("authorization")[0], "Bearer ")
		flights, err := client.ListFlights(ctx, &flight.Criteria{})
		require.NoError(t, err)
		for err == nil {
			_, err = flights.Recv()
		}
		require.ErrorIs(t, err, io.EOF)
	}
}

func TestErrorsCarryTheServersWordsAndTheRightCode(t *testing.T) {
	client, name := connect(t), fresh(t, "errors")
	for _, each := range []struct {
		kind, words string
		with        fields
		code        codes.Code
	}{
		{"DropDataset", "go_nowhere", fields{"name": "go_nowhere"}, codes.NotFound},
		{"DropDataset", "nmae", fields{"nmae": "x"}, codes.InvalidArgument},
		{"Train", `"epochs" is -1`, fields{"epochs": -1}, codes.InvalidArgument},
		{"Fly", "Fly", nil, codes.InvalidArgument},
	} {
		_, err := try(t, client, each.kind, each.with)
		require.Equal(t, each.code.String(), status.Code(err).String(), "%v", err)
		require.ErrorContains(t, err, each.words)
	}
	_, err := upload(t, client, commandDescriptor("Put", fields{"dataset": "no name!"}), batch(t, peopleSchema, peopleRows))
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	require.ErrorContains(t, err, "no name!")
	put(t, client, name, batch(t, peopleSchema, peopleRows))
	_, err = upload(t, client, commandDescriptor("Put", fields{"dataset": name, "mode": "APPEND"}), points(t, 3))
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	require.ErrorContains(t, err, `"name"`)
}

func TestEveryActionIsListed(t *testing.T) {
	client := connect(t)
	stream, err := client.ListActions(t.Context(), &flight.Empty{})
	require.NoError(t, err)
	listed := []string{}
	for {
		action, err := stream.Recv()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		require.NotEmpty(t, action.Description, action.Type)
		listed = append(listed, action.Type)
	}
	require.Subset(t, listed, []string{"Train", "WatchJob", "ListDatasets", "BeginUpload", "CommitUpload",
		flight.CancelFlightInfoActionType, flight.RenewFlightEndpointActionType,
		flight.SetSessionOptionsActionType, flight.GetSessionOptionsActionType, flight.CloseSessionActionType})
}
