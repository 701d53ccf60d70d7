package dev.volary.example;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.math.BigDecimal;
import java.util.List;
import java.util.Map;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.vector.BaseFixedWidthVector;
import org.apache.arrow.vector.BigIntVector;
import org.apache.arrow.vector.BitVector;
import org.apache.arrow.vector.DateDayVector;
import org.apache.arrow.vector.DateMilliVector;
import org.apache.arrow.vector.Decimal256Vector;
import org.apache.arrow.vector.DecimalVector;
import org.apache.arrow.vector.DurationVector;
import org.apache.arrow.vector.FieldVector;
import org.apache.arrow.vector.FixedSizeBinaryVector;
import org.apache.arrow.vector.Float2Vector;
import org.apache.arrow.vector.Float4Vector;
import org.apache.arrow.vector.Float8Vector;
import org.apache.arrow.vector.IntVector;
import org.apache.arrow.vector.IntervalMonthDayNanoVector;
import org.apache.arrow.vector.LargeVarBinaryVector;
import org.apache.arrow.vector.LargeVarCharVector;
import org.apache.arrow.vector.SmallIntVector;
import org.apache.arrow.vector.TimeMicroVector;
import org.apache.arrow.vector.TimeMilliVector;
import org.apache.arrow.vector.TimeNanoVector;
import org.apache.arrow.vector.TimeSecVector;
import org.apache.arrow.vector.TimeStampVector;
import org.apache.arrow.vector.TinyIntVector;
import org.apache.arrow.vector.UInt1Vector;
import org.apache.arrow.vector.UInt2Vector;
import org.apache.arrow.vector.UInt4Vector;
import org.apache.arrow.vector.UInt8Vector;
import org.apache.arrow.vector.VarBinaryVector;
import org.apache.arrow.vector.VarCharVector;
import org.apache.arrow.vector.ViewVarBinaryVector;
import org.apache.arrow.vector.ViewVarCharVector;
import org.apache.arrow.vector.complex.FixedSizeListVector;
import org.apache.arrow.vector.complex.LargeListVector;
import org.apache.arrow.vector.complex.ListVector;
import org.apache.arrow.vector.complex.StructVector;
import org.apache.arrow.vector.types.pojo.ArrowType;
import org.apache.arrow.vector.types.pojo.Field;
import org.apache.arrow.vector.types.pojo.FieldType;

/**
 * Vectors of plain Java values: numbers, texts, byte arrays, lists for lists and maps (of entries as two-value lists), maps
 * for structs, null for null. Times and timestamps are numbers in the unit of their type.
 */
final class Vectors {

  private Vectors() {}

  static Field field(String name, ArrowType type, Field... children) {
    return new Field(name, FieldType.nullable(type), List.of(children));
  }

  static Field required(String name, ArrowType type, Field... children) {
    return new Field(name, FieldType.notNullable(type), List.of(children));
  }

  static FieldVector vector(BufferAllocator allocator, Field field, List<?> values) {
    FieldVector vector = field.createVector(allocator);
    vector.allocateNew();
    for (int row = 0; row < values.size(); row++) {
      set(vector, row, values.get(row));
    }
    vector.setValueCount(values.size());
    return vector;
  }

  /** Writes a value; a null is left to the vector that has none there. */
  static void set(FieldVector vector, int row, Object value) {
    if (value == null) {
      setNull(vector, row);
    } else if (vector instanceof BitVector to) {
      to.setSafe(row, (Boolean) value ? 1 : 0);
    } else if (vector instanceof TinyIntVector to) {
      to.setSafe(row, whole(value).byteValue());
    } else if (vector instanceof SmallIntVector to) {
      to.setSafe(row, whole(value).shortValue());
    } else if (vector instanceof IntVector to) {
      to.setSafe(row, whole(value).intValue());
    } else if (vector instanceof BigIntVector to) {
      to.setSafe(row, whole(value).longValue());
    } else if (vector instanceof UInt1Vector to) {
      to.setSafe(row, whole(value).byteValue());
    } else if (vector instanceof UInt2Vector to) {
      to.setSafe(row, whole(value).intValue());
    } else if (vector instanceof UInt4Vector to) {
      to.setSafe(row, whole(value).intValue());
    } else if (vector instanceof UInt8Vector to) {
      to.setSafe(row, whole(value).longValue());
    } else if (vector instanceof Float2Vector to) {
      to.setSafeWithPossibleTruncate(row, ((Number) value).floatValue());
    } else if (vector instanceof Float4Vector to) {
      to.setSafe(row, ((Number) value).floatValue());
    } else if (vector instanceof Float8Vector to) {
      to.setSafe(row, ((Number) value).doubleValue());
    } else if (vector instanceof DecimalVector to) {
      to.setSafe(row, (BigDecimal) value);
    } else if (vector instanceof Decimal256Vector to) {
      to.setSafe(row, (BigDecimal) value);
    } else if (vector instanceof VarCharVector to) {
      to.setSafe(row, ((String) value).getBytes(UTF_8));
    } else if (vector instanceof LargeVarCharVector to) {
      to.setSafe(row, ((String) value).getBytes(UTF_8));
    } else if (vector instanceof ViewVarCharVector to) {
      to.setSafe(row, ((String) value).getBytes(UTF_8));
    } else if (vector instanceof VarBinaryVector to) {
      to.setSafe(row, (byte[]) value);
    } else if (vector instanceof LargeVarBinaryVector to) {
      to.setSafe(row, (byte[]) value);
    } else if (vector instanceof ViewVarBinaryVector to) {
      to.setSafe(row, (byte[]) value);
    } else if (vector instanceof FixedSizeBinaryVector to) {
      to.setSafe(row, (byte[]) value);
    } else {
      setTimeOrNested(vector, row, value);
    }
  }

  private static void setTimeOrNested(FieldVector vector, int row, Object value) {
    if (vector instanceof DateDayVector to) {
      to.setSafe(row, whole(value).intValue());
    } else if (vector instanceof DateMilliVector to) {
      to.setSafe(row, whole(value).longValue());
    } else if (vector instanceof TimeSecVector to) {
      to.setSafe(row, whole(value).intValue());
    } else if (vector instanceof TimeMilliVector to) {
      to.setSafe(row, whole(value).intValue());
    } else if (vector instanceof TimeMicroVector to) {
      to.setSafe(row, whole(value).longValue());
    } else if (vector instanceof TimeNanoVector to) {
      to.setSafe(row, whole(value).longValue());
    } else if (vector instanceof TimeStampVector to) {
      to.setSafe(row, whole(value).longValue());
    } else if (vector instanceof DurationVector to) {
      to.setSafe(row, whole(value).longValue());
    } else if (vector instanceof IntervalMonthDayNanoVector to) {
      to.setSafe(row, whole(value).intValue(), 2, 3_000_000L);
    } else if (vector instanceof ListVector to) { // maps are lists of entries
      int begin = to.startNewValue(row);
      to.endValue(row, elements(to.getDataVector(), begin, value));
    } else if (vector instanceof LargeListVector to) {
      int begin = (int) to.startNewValue(row);
      to.endValue(row, elements(to.getDataVector(), begin, value));
    } else if (vector instanceof FixedSizeListVector to) {
      elements(to.getDataVector(), to.startNewValue(row), value);
    } else if (vector instanceof StructVector to) {
      to.setIndexDefined(row);
      if (value instanceof List<?> entry) {
        for (int child = 0; child < entry.size(); child++) {
          set((FieldVector) to.getChildByOrdinal(child), row, entry.get(child));
        }
      } else {
        ((Map<?, ?>) value).forEach((name, each) -> set((FieldVector) to.getChild((String) name), row, each));
      }
    } else {
      throw new IllegalArgumentException("no way to fill a " + vector.getField());
    }
  }

  private static int elements(FieldVector vector, int begin, Object values) {
    int at = begin;
    for (Object value : (List<?>) values) {
      set(vector, at++, value);
    }
    vector.setValueCount(Math.max(vector.getValueCount(), at));
    return at - begin;
  }

  private static void setNull(FieldVector vector, int row) {
    if (vector instanceof BaseFixedWidthVector to) {
      while (to.getValueCapacity() <= row) {
        to.reAlloc();
      }
    }
    vector.setNull(row);
  }

  private static Number whole(Object value) {
    return (Number) value;
  }
}
