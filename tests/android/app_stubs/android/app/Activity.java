package android.app;

import android.content.Context;
import android.os.Bundle;
import android.view.View;

/** A stand-in, as far as a starter project's activity needs it. */
public class Activity extends Context {
  protected void onCreate(Bundle state) {}

  public void setContentView(View view) {}

  public final void runOnUiThread(Runnable action) {}
}
