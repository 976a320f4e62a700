package dlpack.@package@;

import android.content.res.AssetFileDescriptor;
import android.content.res.AssetManager;
import java.io.FileInputStream;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;

/** The weights in memory: a mapped file, or a copy that {@link #close} frees. */
final class Weights {
  private static final String NAME = "@weights@";
  private static final int BYTES = @weights_bytes@;

  final ByteBuffer data;
  private final boolean copied;

  Weights(ByteBuffer data, boolean copied) {
    if (!data.isDirect()) throw new IllegalArgumentException("the weights are not in a direct buffer");
    this.data = data;
    this.copied = copied;
  }

  static Weights of(AssetManager assets) throws IOException {
    try (AssetFileDescriptor file = assets.openFd(NAME);
        FileInputStream stream = file.createInputStream()) {
      ByteBuffer mapped =
          stream.getChannel().map(FileChannel.MapMode.READ_ONLY, file.getStartOffset(), file.getLength());
      if (Predictor.aligned(mapped)) return new Weights(mapped, false);  // assets begin at multiples of 4 bytes
    } catch (FileNotFoundException compressed) {
      // Only what is stored can be mapped.
    }
    try (InputStream stream = assets.open(NAME)) {
      return copy(stream);
    }
  }

  private static Weights copy(InputStream stream) throws IOException {
    ByteBuffer memory = Predictor.allocate(BYTES);
    if (memory == null) throw new IllegalStateException("not enough memory for " + BYTES + " bytes of weights");
    Weights weights = new Weights(memory, true);
    try {
      byte[] part = new byte[1 << 16];
      for (int n; (n = stream.read(part, 0, Math.min(part.length, memory.remaining()))) > 0; ) memory.put(part, 0, n);
      if (memory.hasRemaining() || stream.read() >= 0) {
        throw new IllegalStateException("the asset " + NAME + " has not the " + BYTES + " bytes of this model's weights");
      }
      return weights;
    } catch (IOException | RuntimeException e) {
      weights.close();
      throw e;
    }
  }

  void close() {
    if (copied) Predictor.free(data);
  }
}
