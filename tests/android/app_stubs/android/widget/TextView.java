package android.widget;

import android.content.Context;
import android.view.View;

/** A stand-in, as far as a starter project's activity needs it. */
public class TextView extends View {
  public TextView(Context context) {}

  public CharSequence getText() {
    return "";
  }

  public final void setText(CharSequence text) {}
}
