"""Recurrent operators: LSTM, GRU and RNN as loops over time."""
