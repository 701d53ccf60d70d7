package org.apache.spark.sql.volary

import scala.jdk.CollectionConverters._

import org.apache.arrow.memory.BufferAllocator
import org.apache.arrow.vector.{BaseFixedWidthVector, BitVectorHelper, FieldVector, VarCharVector, VectorSchemaRoot}
import org.apache.arrow.vector.complex.ListVector
import org.apache.arrow.vector.types.pojo.{Field, Schema}

import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions.SpecializedGetters
import org.apache.spark.sql.execution.arrow.{ArrowFieldWriter, ArrowWriter}
import org.apache.spark.sql.execution.vectorized.WritableColumnVector
import org.apache.spark.sql.types._
import org.apache.spark.sql.util.ArrowUtils
import org.apache.spark.sql.vectorized.{ArrowColumnVector, ColumnarBatch, ColumnarBatchRow, ColumnVector}
import org.apache.spark.unsafe.Platform
import org.apache.spark.unsafe.types.UTF8String

/** A column of Spark's on its way into Arrow: its place among the columns that rows and batches have. */
private[volary] final case class Source(name: String, place: Int, kind: DataType)

/** Some of Spark's columns as Arrow's, in memory of their own that is used again for the next rows.
  *
  * Numbers and texts of a batch are copied as they lie; everything else, and every row, goes through the writers by which
  * Spark itself makes Arrow. Who reads the columns is not known here.
  */
private[volary] final class ArrowColumns(sources: Seq[Source], allocator: BufferAllocator) extends AutoCloseable {
  import ArrowColumns._

  val root: VectorSchemaRoot = VectorSchemaRoot.create(schema(sources), allocator)

  private val vectors: Array[FieldVector] = root.getFieldVectors.asScala.toArray
  private val kinds: Array[DataType] = sources.map(_.kind).toArray
  private val places: Array[Int] = sources.map(_.place).toArray
  private val writers: Array[ArrowFieldWriter] = vectors.zip(kinds).map { case (vector, kind) =>
    vector.allocateNew()
    if (isVector(kind)) new VectorWriter(vector.asInstanceOf[ListVector]) else ArrowWriter.createFieldWriter(vector)
  }
  private val dense: Array[VectorWriter] = writers.collect { case each: VectorWriter => each }
  private var rows = 0

  /** The rows of a batch, in place of what was here. */
  def copy(batch: ColumnarBatch): Unit = {
    rows = batch.numRows
    var at = 0
    while (at < vectors.length) {
      val column = batch.column(places(at))
      (kinds(at), vectors(at)) match {
        case (kind, vector: BaseFixedWidthVector) if liesAlike(kind) && (!column.hasNull || column.isInstanceOf[WritableColumnVector]) =>
          copyNumbers(kind, column, rows, vector)
        case (_: StringType, vector: VarCharVector) => copyTexts(column, rows, vector)
        case _                                      => copyEach(column, rows, writers(at))
      }
      at += 1
    }
    root.setRowCount(rows)
  }

  /** Forgets what is here, before rows are written. */
  def reset(): Unit = {
    writers.foreach(_.reset())
    rows = 0
  }

  /** One row more. */
  def write(row: InternalRow): Unit = {
    var at = 0
    while (at < writers.length) {
      writers(at).write(row, places(at))
      at += 1
    }
    rows += 1
  }

  /** What became of Vectors, in bytes: a sparse one says nothing of it by its own size. */
  def denseBytes: Long = if (dense.isEmpty) 0 else dense.map(_.bytes).sum

  /** The rows that were written are whole. */
  def finish(): Unit = {
    writers.foreach(_.finish())
    root.setRowCount(rows)
  }

  /** One of the columns, for Spark; valid until other rows are copied. */
  def column(at: Int): ColumnVector =
    if (isCopiedWhole(kinds(at))) new CopiedColumn(kinds(at), vectors(at)) else new ArrowColumnVector(vectors(at))

  /** What is here, in bytes. */
  def bytes: Long = vectors.map(_.getBufferSize.toLong).sum

  override def close(): Unit = root.close()
}

private[volary] object ArrowColumns {

  /** Any moment is one of UTC, whatever zone the session shows it in. */
  private val Zone = "UTC"

  def schema(sources: Seq[Source]): Schema = new Schema(sources.map(each => field(each.name, each.kind)).asJava)

  private def field(name: String, kind: DataType): Field =
    ArrowUtils.toArrowField(name, if (isVector(kind)) ArrayType(DoubleType) else kind, nullable = true, Zone)

  /** Whether it is pyspark.ml's (or pyspark.mllib's) Vector. */
  def isVector(kind: DataType): Boolean = kind match {
    case udt: UserDefinedType[_] => udt.getClass.getName.endsWith(".linalg.VectorUDT")
    case _                       => false
  }

  /** Whether a column of such values is copied as a whole, and read again by [[CopiedColumn]]. */
  def isCopiedWhole(kind: DataType): Boolean = liesAlike(kind) || kind.isInstanceOf[StringType]

  /** Whether copying such values for later costs less than waiting for an answer. */
  def isCheap(kind: DataType): Boolean = isCopiedWhole(kind) || kind == BooleanType || kind.isInstanceOf[DecimalType]

  /** Whether Spark's array of such values is Arrow's buffer, byte for byte. */
  private def liesAlike(kind: DataType): Boolean = kind match {
    case ByteType | ShortType | IntegerType | LongType | FloatType | DoubleType => true
    case DateType | TimestampType | TimestampNTZType | _: DayTimeIntervalType   => true
    case _                                                                      => false
  }

  private def copyNumbers(kind: DataType, column: ColumnVector, rows: Int, vector: BaseFixedWidthVector): Unit = {
    if (vector.getValueCapacity < rows) vector.allocateNew(rows)
    val (array, offset): (AnyRef, Int) = kind match {
      case ByteType               => (column.getBytes(0, rows), Platform.BYTE_ARRAY_OFFSET)
      case ShortType              => (column.getShorts(0, rows), Platform.SHORT_ARRAY_OFFSET)
      case IntegerType | DateType => (column.getInts(0, rows), Platform.INT_ARRAY_OFFSET)
      case FloatType              => (column.getFloats(0, rows), Platform.FLOAT_ARRAY_OFFSET)
      case DoubleType             => (column.getDoubles(0, rows), Platform.DOUBLE_ARRAY_OFFSET)
      case _                      => (column.getLongs(0, rows), Platform.LONG_ARRAY_OFFSET)
    }
    Platform.copyMemory(array, offset.toLong, null, vector.getDataBufferAddress, rows.toLong * vector.getTypeWidth)
    copyValidity(column, rows, vector)
    vector.setValueCount(rows)
  }

  private def copyTexts(column: ColumnVector, rows: Int, vector: VarCharVector): Unit = {
    if (vector.getValueCapacity < rows) vector.allocateNew(rows)
    val offsets = vector.getOffsetBuffer.memoryAddress
    val nulls = column.hasNull
    val texts = new Texts(column)
    var capacity = vector.getDataBuffer.capacity
    var address = vector.getDataBuffer.memoryAddress
    var end = 0L
    var row = 0
    Platform.putInt(null, offsets, 0)
    while (row < rows) {
      if (!nulls || !column.isNullAt(row)) {
        val text = texts.at(row)
        val bytes = text.numBytes
        if (end + bytes > capacity) {
          vector.reallocDataBuffer(math.max(2 * capacity, end + bytes))
          capacity = vector.getDataBuffer.capacity
          address = vector.getDataBuffer.memoryAddress
        }
        copyText(text, bytes, address + end)
        end += bytes
      }
      row += 1
      Platform.putInt(null, offsets + 4L * row, Math.toIntExact(end))
    }
    copyValidity(column, rows, vector)
    vector.setLastSet(rows - 1)
    vector.setValueCount(rows)
  }

  /** The texts of a column. Those of a dictionary are taken out of it once for a batch, and not once for each row. */
  private final class Texts(column: ColumnVector) {
    private val ids = column match {
      case writable: WritableColumnVector if writable.hasDictionary => writable.getDictionaryIds
      case _                                                        => null
    }
    private val known = if (ids == null) null else new Array[UTF8String](KnownTexts)

    def at(row: Int): UTF8String =
      if (ids == null) column.getUTF8String(row)
      else {
        val id = ids.getDictId(row)
        if (id >= KnownTexts) column.getUTF8String(row)
        else {
          if (known(id) == null) known(id) = column.getUTF8String(row)
          known(id)
        }
      }
  }

  /** Of a dictionary, so many entries are remembered: those of columns that name kinds of things. */
  private val KnownTexts = 1024

  /** Copies a text; most are short, and what copies memory costs more to call than eight bytes at a time do here. */
  private def copyText(text: UTF8String, bytes: Int, to: Long): Unit =
    if (bytes > 64) text.writeToMemory(null, to)
    else {
      val from = text.getBaseObject
      val start = text.getBaseOffset
      var at = 0
      while (at + 8 <= bytes) {
        Platform.putLong(null, to + at, Platform.getLong(from, start + at))
        at += 8
      }
      while (at < bytes) {
        Platform.putByte(null, to + at, Platform.getByte(from, start + at))
        at += 1
      }
    }

  private def copyEach(column: ColumnVector, rows: Int, writer: ArrowFieldWriter): Unit = {
    val one = new ColumnarBatchRow(Array(column))
    writer.reset()
    var row = 0
    while (row < rows) {
      one.rowId = row
      writer.write(one, 0)
      row += 1
    }
    writer.finish()
  }

  private def copyValidity(column: ColumnVector, rows: Int, vector: FieldVector): Unit = {
    val validity = vector.getValidityBuffer
    validity.setOne(0L, (rows / 8).toLong)
    if (rows % 8 > 0) validity.setByte((rows / 8).toLong, (1 << (rows % 8)) - 1)
    if (column.hasNull) {
      var row = 0
      while (row < rows) {
        if (column.isNullAt(row)) BitVectorHelper.unsetBit(validity, row)
        row += 1
      }
    }
  }

  /** pyspark.ml's Vector, a struct of type, size, indices and values, as the list of its numbers. */
  private final class VectorWriter(override val valueVector: ListVector) extends ArrowFieldWriter {
    private val numbers = ArrowWriter.createFieldWriter(valueVector.getDataVector)
    private val zero = InternalRow(0.0)
    private var row = 0 // the count that Spark's writers keep is closed to others
    private var length = 0L

    def bytes: Long = length * java.lang.Double.BYTES

    override def setNull(): Unit = row += 1

    override def setValue(input: SpecializedGetters, ordinal: Int): Unit = {
      val vector = input.getStruct(ordinal, 4)
      val values = vector.getArray(3)
      val there = values.numElements()
      valueVector.startNewValue(row)
      var at = 0
      val written = if (vector.getByte(0) == 1) {
        while (at < there) {
          numbers.write(values, at)
          at += 1
        }
        there
      } else {
        val indices = vector.getArray(2)
        val size = vector.getInt(1)
        var place = 0
        while (place < size) {
          if (at < there && indices.getInt(at) == place) {
            numbers.write(values, at)
            at += 1
          } else numbers.write(zero, 0)
          place += 1
        }
        size
      }
      valueVector.endValue(row, written)
      length += written
      row += 1
    }

    override def finish(): Unit = {
      super.finish()
      numbers.finish()
    }

    override def reset(): Unit = {
      super.reset()
      numbers.reset()
      row = 0
      length = 0
    }
  }
}
