package org.apache.spark.sql.volary

import io.grpc.Status
import org.apache.arrow.vector._
import org.apache.arrow.vector.complex.{FixedSizeListVector, ListVector}

import org.apache.spark.sql.types._
import org.apache.spark.sql.vectorized.{ArrowColumnVector, ColumnarArray, ColumnVector}
import org.apache.spark.unsafe.Platform
import org.apache.spark.unsafe.types.UTF8String

/** A server's answers as Spark's columns, read where they lie: valid until the next answer is read. */
private[volary] object AnswerColumns {

  /** The columns that are made of these answers. */
  def of(root: VectorSchemaRoot, answers: Seq[Answer], threshold: Option[Threshold]): Array[ColumnVector] =
    answers.map { answer =>
      (threshold, answer.kind) match {
        case (Some(border), "number" | "as_is") if answer.source == "prediction" =>
          new Chosen(number(vector(root, "probability")), border, answer.dataType)
        case (_, "number")  => number(vector(root, answer.source))
        case (_, "numbers") => numbers(vector(root, answer.source))
        case (_, "vector")  => new Vectors(probabilities(vector(root, answer.source)), answer.dataType)
        case (_, "as_is")   => new ArrowColumnVector(vector(root, answer.source))
        case (_, other)     => throw new IllegalArgumentException(s"an answer of the kind $other is not known")
      }
    }.toArray

  private def vector(root: VectorSchemaRoot, name: String): FieldVector =
    Option(root.getVector(name)).getOrElse {
      throw new VolaryException(Status.Code.INTERNAL, s"""the server's answers have no column "$name"; ask again""", null)
    }

  private def number(values: FieldVector): ColumnVector = values match {
    case floats: Float4Vector    => new Floats(floats)
    case doubles: Float8Vector   => new CopiedColumn(DoubleType, doubles)
    case integers: BaseIntVector => new Integers(integers)
    case other                   => throw new IllegalArgumentException(s"an answer of the type ${other.getField.getType} is no number")
  }

  private def numbers(values: FieldVector): BorrowedColumn = values match {
    case lists: FixedSizeListVector => new FixedLists(lists, number(lists.getDataVector))
    case lists: ListVector          => new Lists(lists, number(lists.getDataVector))
    case other                      => throw new IllegalArgumentException(s"an answer of the type ${other.getField.getType} is no list of numbers")
  }

  /** One number for each class; of two classes a model answers that of the second alone. */
  private def probabilities(values: FieldVector): BorrowedColumn = values match {
    case _: FixedSizeListVector | _: ListVector => numbers(values)
    case second                                 => new Pairs(number(second))
  }

  private final class Floats(values: Float4Vector) extends BorrowedColumn(DoubleType, new Validity(values)) {
    private val address = values.getDataBufferAddress
    override def getDouble(row: Int): Double = Platform.getFloat(null, address + 4L * row).toDouble
  }

  private final class Integers(values: BaseIntVector)
      extends BorrowedColumn(DoubleType, new Validity(values.asInstanceOf[FieldVector])) {
    private val unsigned = values.isInstanceOf[UInt8Vector]
    override def getDouble(row: Int): Double = {
      val value = values.getValueAsLong(row)
      if (unsigned && value < 0) ((value >>> 1) | (value & 1)).toDouble * 2 else value.toDouble
    }
  }

  private final class FixedLists(values: FixedSizeListVector, data: ColumnVector)
      extends BorrowedColumn(ArrayType(DoubleType), new Validity(values)) {
    private val size = values.getListSize
    override def getArray(row: Int): ColumnarArray = new ColumnarArray(data, row * size, size)
  }

  private final class Lists(values: ListVector, data: ColumnVector) extends BorrowedColumn(ArrayType(DoubleType), new Validity(values)) {
    override def getArray(row: Int): ColumnarArray = {
      val start = values.getElementStartIndex(row)
      new ColumnarArray(data, start, values.getElementEndIndex(row) - start)
    }
  }

  /** The first class's probability before the second's. */
  private final class Pairs(second: ColumnVector) extends BorrowedColumn(ArrayType(DoubleType), second) {
    private val both = new BorrowedColumn(DoubleType, second) {
      override def isNullAt(place: Int): Boolean = second.isNullAt(place >> 1)
      override def getDouble(place: Int): Double = {
        val probability = second.getDouble(place >> 1)
        if ((place & 1) == 1) probability else 1.0 - probability
      }
    }
    override def getArray(row: Int): ColumnarArray = new ColumnarArray(both, 2 * row, 2)
  }

  /** Dense Vectors of pyspark.ml: a struct of type, size, indices and values, of which a dense one has the first and the last. */
  private final class Vectors(values: BorrowedColumn, kind: DataType) extends BorrowedColumn(kind.asInstanceOf[UserDefinedType[_]].sqlType, values) {
    private val dense = new BorrowedColumn(ByteType, values) {
      override def getByte(row: Int): Byte = 1
    }
    private val nothing = new BorrowedColumn(NullType, values) {
      override def hasNull: Boolean = true
      override def isNullAt(row: Int): Boolean = true
    }
    override def getChild(ordinal: Int): ColumnVector = ordinal match {
      case 0     => dense
      case 1 | 2 => nothing
      case 3     => values
    }
  }

  /** The class of each row by the second one's probability. */
  private final class Chosen(probability: ColumnVector, border: Threshold, kind: DataType) extends BorrowedColumn(kind, probability) {
    private def chosen(row: Int): Any = if (probability.getDouble(row) > border.value) border.second else border.first
    override def getDouble(row: Int): Double = chosen(row).asInstanceOf[Double]
    override def getBoolean(row: Int): Boolean = chosen(row).asInstanceOf[Boolean]
    override def getUTF8String(row: Int): UTF8String = chosen(row).asInstanceOf[UTF8String]
  }
}
