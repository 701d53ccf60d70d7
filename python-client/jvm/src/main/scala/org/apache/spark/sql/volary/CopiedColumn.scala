package org.apache.spark.sql.volary

import org.apache.arrow.vector.{BitVectorHelper, FieldVector, VarCharVector}

import org.apache.spark.sql.types.{DataType, Decimal, NullType}
import org.apache.spark.sql.vectorized.{ColumnarArray, ColumnarMap, ColumnVector}
import org.apache.spark.unsafe.Platform
import org.apache.spark.unsafe.types.UTF8String

/** A column over memory that is somebody else's, who frees it. It has no values but those that a subclass knows.
  *
  * @param over tells which are null; nothing is, where there is none
  */
private[volary] abstract class BorrowedColumn(kind: DataType, over: ColumnVector) extends ColumnVector(kind) {
  // Asked once: models hardly ever answer null, and each row is asked about several times.
  private val nulls = over != null && over.hasNull

  override def close(): Unit = ()
  override def hasNull: Boolean = nulls
  override def numNulls: Int = if (nulls) over.numNulls else 0
  override def isNullAt(row: Int): Boolean = nulls && over.isNullAt(row)
  override def getBoolean(row: Int): Boolean = none
  override def getByte(row: Int): Byte = none
  override def getShort(row: Int): Short = none
  override def getInt(row: Int): Int = none
  override def getLong(row: Int): Long = none
  override def getFloat(row: Int): Float = none
  override def getDouble(row: Int): Double = none
  override def getArray(row: Int): ColumnarArray = none
  override def getMap(row: Int): ColumnarMap = none
  override def getDecimal(row: Int, precision: Int, scale: Int): Decimal = none
  override def getUTF8String(row: Int): UTF8String = none
  override def getBinary(row: Int): Array[Byte] = none
  override def getChild(ordinal: Int): ColumnVector = none

  private def none: Nothing = throw new UnsupportedOperationException(s"a column of ${dataType.simpleString}")
}

/** Numbers or texts in Arrow's memory, read without the checks that Arrow's own accessors make for each.
  *
  * One class for all of them, so that what is compiled for reading rows calls no virtual method.
  */
private[volary] final class CopiedColumn(kind: DataType, vector: FieldVector) extends BorrowedColumn(kind, new Validity(vector)) {
  private val values = vector.getDataBuffer.memoryAddress
  private val offsets = vector match {
    case texts: VarCharVector => texts.getOffsetBuffer.memoryAddress
    case _                    => 0L
  }

  override def getByte(row: Int): Byte = Platform.getByte(null, values + row)
  override def getShort(row: Int): Short = Platform.getShort(null, values + 2L * row)
  override def getInt(row: Int): Int = Platform.getInt(null, values + 4L * row)
  override def getLong(row: Int): Long = Platform.getLong(null, values + 8L * row)
  override def getFloat(row: Int): Float = Platform.getFloat(null, values + 4L * row)
  override def getDouble(row: Int): Double = Platform.getDouble(null, values + 8L * row)
  override def getUTF8String(row: Int): UTF8String = {
    val start = Platform.getInt(null, offsets + 4L * row)
    UTF8String.fromAddress(null, values + start, Platform.getInt(null, offsets + 4L * row + 4L) - start)
  }
}

/** Which values of a column of Arrow's are there. */
private[volary] final class Validity(vector: FieldVector) extends BorrowedColumn(NullType, null) {
  private val missing = vector.getNullCount
  private val bits = vector.getValidityBuffer

  override def hasNull: Boolean = missing > 0
  override def numNulls: Int = missing
  override def isNullAt(row: Int): Boolean = missing > 0 && BitVectorHelper.get(bits, row) == 0
}
