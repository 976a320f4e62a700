package dlpack.@package@;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.StandardCopyOption;

/** The library of the native methods. */
final class Library {
  private Library() {}

  /** Loads it where the system finds it (an Android package), else from this package's resources. */
  static void load() {
    try {
      System.loadLibrary("@name@_jni");
    } catch (UnsatisfiedLinkError notInstalled) {
      try (InputStream library = Library.class.getResourceAsStream("@library@")) {
        if (library == null) throw notInstalled;
        File file = File.createTempFile("@name@", "@library@");
        file.deleteOnExit();
        Files.copy(library, file.toPath(), StandardCopyOption.REPLACE_EXISTING);
        System.load(file.getAbsolutePath());
      } catch (IOException e) {
        throw new IllegalStateException("@library@ cannot be unpacked: " + e.getMessage(), e);
      }
    }
  }
}
